"""Processes that are killed come back by themselves; meanwhile nothing is let through or lost."""

import os
import shutil
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil
from evasions.calls import MODEL, encode, prompt, read_told, request, send, token_for
from support.deployment import ROOT, Deployment, running

BACK_S = 20.0


def call(deployment: Deployment, agent: str, model: str = MODEL) -> tuple[int, str]:
    """Return the status and error code of one call."""
    body = encode(prompt(model=model))
    reply = send(deployment, request(body, token=token_for(deployment), agent=agent), timeout_s=10)
    return reply.status, read_told(reply).code if reply.status >= 400 else ""


def wait_until(is_so: Callable[[], bool], timeout_s: float = BACK_S) -> None:
    until = time.monotonic() + timeout_s
    while not is_so():
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.1)


def answers(deployment: Deployment, agent: str) -> bool:
    try:
        return call(deployment, agent)[0] == 200
    except (OSError, AssertionError):  # nobody listens, or the connection broke
        return False


def stop(deployment: Deployment) -> str:
    """Stop a deployment as Ctrl-C does and return what it said since it was ready."""
    deployment.process.send_signal(signal.SIGINT)
    said, _ = deployment.process.communicate(timeout=60)
    return said.decode()


def test_whatever_is_killed_is_started_again_said_and_an_event(tmp_path: Path) -> None:
    with running(tmp_path / "var") as deployment:
        before = deployment.processes
        for process in before.values():
            os.kill(process.pid, signal.SIGKILL)
        wait_until(lambda: {p.state for p in deployment.processes.values()} == {"running"})
        wait_until(lambda: {p.restarts for p in deployment.processes.values()} >= {1})
        wait_until(lambda: answers(deployment, "again/one"))
        after = deployment.processes
        query = "select message, reason, detail_json from events where kind = 'process.restarted'"
        rows = deployment.wait_for(query, len(before))
        children = psutil.Process(deployment.process.pid).children(recursive=True)
        said = stop(deployment)
    assert {"relay", "opa", "recorder", "console", "proxy-1", "demo"} <= before.keys()
    assert after.keys() == before.keys()
    assert {p.last_end for p in after.values()} == {"SIGKILL"}
    for name in before:
        message = f"{name} ended (SIGKILL) and was started again."
        detail = f'{{"process":"{name}","end":"SIGKILL","restart":1}}'
        assert {"message": message, "reason": "process.ended", "detail_json": detail} in rows
        lines = [line for line in said.splitlines() if line.startswith(f"{name} ended (SIGKILL)")]
        assert lines[0].startswith(f"{name} ended (SIGKILL); it is started again in 0.2 s")
        assert lines[0].endswith(f"[{deployment.folder}/log/{name}.log]")
    assert len(children) == len(before)
    assert "Stopped." in said


def test_while_the_policy_engine_comes_back_calls_fail_and_nothing_passes(tmp_path: Path) -> None:
    seen: dict[str, set[tuple[int, str]]] = {"granted": set(), "denied": set()}
    with running(tmp_path / "var") as deployment:
        is_over = threading.Event()

        def keep_calling(what: str, model: str) -> None:
            while not is_over.is_set():
                seen[what].add(call(deployment, f"{what}/x", model))

        callers = [
            threading.Thread(target=keep_calling, args=("granted", MODEL)),
            threading.Thread(target=keep_calling, args=("denied", "claude-mythos-1")),
        ]
        for caller in callers:
            caller.start()
        for restart in (1, 2):
            os.kill(deployment.processes["opa"].pid, signal.SIGKILL)
            wait_until(lambda n=restart: deployment.processes["opa"].restarts == n)  # type: ignore[misc]
            wait_until(lambda: answers(deployment, "granted/again"))
        is_over.set()
        for caller in callers:
            caller.join()
    unavailable = (503, "policy_unavailable")
    assert seen["granted"] == {(200, ""), unavailable}
    assert unavailable in seen["denied"]
    assert {status for status, _ in seen["denied"]} <= {400, 403, 503}


def test_a_killed_workers_streams_are_recorded_as_interrupted(tmp_path: Path) -> None:
    one_worker = {"COUNTERSIGN_PROXY__WORKERS": "1"}
    with running(tmp_path / "var", environment=one_worker) as deployment:

        def kill() -> None:
            os.kill(deployment.processes["proxy-1"].pid, signal.SIGKILL)

        body = encode(prompt("[[demo length=600 pace=40]]", stream=True))
        call_bytes = request(body, token=token_for(deployment), agent="killed/one")
        reply = send(deployment, call_bytes, soon=kill)
        wait_until(lambda: answers(deployment, "killed/two"))
        query = "select user_agent, ending from exchanges where user_agent like 'killed/%'"
        rows = deployment.wait_for(f"{query} and ending <> 'failed' order by 1", 2)
    assert (reply.status, reply.is_whole) == (200, False)
    assert rows[0] == {"user_agent": "killed/one", "ending": "interrupted"}
    assert rows[1] == {"user_agent": "killed/two", "ending": "delivered"}


def test_a_relay_that_comes_back_offers_no_older_policy(tmp_path: Path) -> None:
    policies = tmp_path / "policies"
    shutil.copytree(ROOT / "policies", policies)
    environment = {"COUNTERSIGN_POLICY__SOURCE": str(policies)}
    with running(tmp_path / "var", environment=environment) as deployment:

        def revision() -> str:
            return deployment.run("policy", "status", check=False).partition("\n")[0]

        first = revision()
        (policies / "gateway" / "added.rego").write_text("package gateway.added\n")
        wait_until(lambda: revision() != first)
        second = revision()
        (policies / "gateway" / "broken.rego").write_text("package gateway.broken\n\nallow if {\n")
        for name in ("relay", "opa"):
            os.kill(deployment.processes[name].pid, signal.SIGKILL)
        wait_until(lambda: deployment.processes["opa"].restarts == 1)
        wait_until(lambda: answers(deployment, "relay/again"))
        assert revision() == second
        assert second.startswith("active revision")


def test_a_parent_killed_after_restarts_leaves_no_process(tmp_path: Path) -> None:
    with running(tmp_path / "var") as deployment:
        for name in ("opa", "proxy-1"):
            os.kill(deployment.processes[name].pid, signal.SIGKILL)
        wait_until(lambda: deployment.processes["proxy-1"].restarts == 1)
        wait_until(lambda: deployment.processes["opa"].restarts == 1)
        children = psutil.Process(deployment.process.pid).children(recursive=True)
        deployment.process.send_signal(signal.SIGKILL)
        deployment.process.wait(60)
        _, left = psutil.wait_procs(children, timeout=15)
    assert len(children) > 2
    assert left == []
