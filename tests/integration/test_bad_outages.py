"""Parts of the product that stop: calls fail closed, in time and recorded, and then work again."""

import resource
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import psutil
import pytest
from evasions.calls import (
    Reply,
    Told,
    encode,
    fetch_records,
    prompt,
    read_events,
    read_told,
    request,
    send,
    token_for,
)
from support.deployment import Deployment, running

IN_TIME_S = 3.0
"""A refusal for an outage comes far before a client would give up."""


@pytest.fixture(scope="module")
def outage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """A deployment whose parts may be stopped."""
    with running(tmp_path_factory.mktemp("outage") / "var") as started:
        yield started


def _call(
    deployment: Deployment, agent: str, *, said: str = "Hello", timeout_s: float = 10
) -> Reply:
    token = token_for(deployment)
    call = request(encode(prompt(said)), token=token, agent=agent)
    return send(deployment, call, timeout_s=timeout_s)


def _children(deployment: Deployment) -> list[psutil.Process]:
    return psutil.Process(deployment.process.pid).children(recursive=True)


def _opa(deployment: Deployment) -> list[psutil.Process]:
    return [child for child in _children(deployment) if child.name() == "opa"]


def _listening(deployment: Deployment, port: int) -> list[psutil.Process]:
    """Return the processes of a deployment that listen on a port."""
    return [
        child
        for child in _children(deployment)
        if any(c.status == "LISTEN" and c.laddr.port == port for c in child.net_connections())
    ]


@contextmanager
def _stopped(processes: list[psutil.Process]) -> Iterator[None]:
    """Stop processes as a machine that swaps would, and let them go on at the end."""
    assert processes
    for process in processes:
        process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        for process in processes:
            process.send_signal(signal.SIGCONT)


@contextmanager
def _full_disk(processes: list[psutil.Process]) -> Iterator[None]:
    """Let no file of these processes grow, as a full disk does."""
    assert processes
    before = [resource.prlimit(process.pid, resource.RLIMIT_FSIZE) for process in processes]
    for process, (_, hard) in zip(processes, before, strict=True):
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (1, hard))
    try:
        yield
    finally:
        for process, limits in zip(processes, before, strict=True):
            resource.prlimit(process.pid, resource.RLIMIT_FSIZE, limits)


def _call_until_answered(deployment: Deployment, agent: str) -> int:
    """Return the status of the first call that works again, or of the last within its bound."""
    until = time.monotonic() + 10
    while (status := _call(deployment, agent).status) != 200 and time.monotonic() < until:
        time.sleep(0.1)
    return status


def test_no_policy_engine_is_a_failure_recorded_as_undecided(outage: Deployment) -> None:
    with _stopped(_opa(outage)):
        began = time.monotonic()
        told = [read_told(_call(outage, f"no-opa/{number}")) for number in range(3)]
        took_s = (time.monotonic() - began) / 3
    assert (
        told == [Told(status=503, kind="api_error", code="policy_unavailable", retry="later")] * 3
    )
    assert took_s < IN_TIME_S
    assert _call_until_answered(outage, "opa-again/one") == 200
    failed = {"outcome": "undecided", "ending": "failed", "status": 503}
    agents = [f"no-opa/{number}" for number in range(3)]
    assert fetch_records(outage, agents) == {
        agent: {**failed, "error_code": "policy_unavailable"} for agent in agents
    }


def test_no_policy_engine_lets_no_unknown_caller_in(outage: Deployment) -> None:
    with _stopped(_opa(outage)):
        reply = send(outage, request(encode(prompt())))
    assert read_told(reply) == Told(status=401, kind="authentication_error", code="token.missing")


def test_a_full_journal_is_a_failure_and_nothing_is_forwarded(outage: Deployment) -> None:
    assert _call(outage, "before-full/one").status == 200
    with _full_disk(_listening(outage, outage.base_port)):
        told = [read_told(_call(outage, f"full/{number}")) for number in range(3)]
    failure = Told(status=503, kind="api_error", code="recording_unavailable", retry="later")
    assert told == [failure] * 3
    assert _call_until_answered(outage, "after-full/one") == 200
    delivered = {"ending": "delivered", "outcome": "allow", "prompt_text": "Hello"}
    columns = ("ending", "outcome", "prompt_text")
    records = fetch_records(outage, ["after-full/one"], *columns)
    assert records == {"after-full/one": delivered}


def test_a_journal_that_is_full_within_a_stream_ends_it_without_its_last_event(
    outage: Deployment,
) -> None:
    agent = "full-stream/one"
    call = request(
        encode(prompt("[[demo pace=400 split=20]]", stream=True)),
        token=token_for(outage),
        agent=agent,
    )
    with ExitStack() as stack:

        def fill() -> None:
            stack.enter_context(_full_disk(_listening(outage, outage.base_port)))

        reply = send(outage, call, soon=fill)
    last = read_events(reply)[-1]
    assert (reply.is_whole, last["type"]) == (True, "error")
    assert "[recording_unavailable, exch_" in last["error"]["message"]
    assert b"message_stop" not in reply.raw
    assert _call_until_answered(outage, "after-full-stream/one") == 200
    failed = {"outcome": "allow", "ending": "failed", "status": 200}
    assert fetch_records(outage, [agent]) == {
        agent: {**failed, "error_code": "recording_unavailable"}
    }


def test_a_silent_claude_server_is_waited_for_and_the_caller_that_leaves_is_recorded(
    outage: Deployment,
) -> None:
    warm = {_call(outage, f"every-worker-knows-the-keys/{number}").status for number in range(16)}
    with _stopped(_listening(outage, outage.base_port + 5)):
        reply = _call(outage, "silent/one", timeout_s=1)
        records = fetch_records(outage, ["silent/one"])
    cancelled = {"outcome": "allow", "ending": "cancelled", "status": None, "error_code": None}
    assert (warm, reply.status, reply.is_closed) == ({200}, 0, False)
    assert records == {"silent/one": cancelled}
