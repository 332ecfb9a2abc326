"""`countersign up`: what it says when it can't, and that it leaves nothing behind."""

import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import psutil
import pytest
from support.deployment import COUNTERSIGN, ROOT, Deployment, free_base_port, running


def up(folder: Path, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    command = [*COUNTERSIGN, "up", "--demo", "--folder", str(folder), *arguments]
    if "--base-port" not in arguments:
        command += ["--base-port", str(free_base_port())]
    return subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def wait_until_gone(pids: list[int]) -> list[int]:
    until = time.monotonic() + 15
    while left := [pid for pid in pids if psutil.pid_exists(pid) and _is_running(pid)]:
        if time.monotonic() > until:
            return left
        time.sleep(0.1)
    return []


def _is_running(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def children_of(deployment: Deployment) -> dict[str, int]:
    found = {}
    for child in psutil.Process(deployment.process.pid).children(recursive=True):
        found["opa" if "opa" in child.name() else str(child.pid)] = child.pid
    return found


def test_a_taken_port_is_one_clear_line(tmp_path: Path) -> None:
    base = free_base_port()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", base + 1))
        taken.listen()
        done = up(tmp_path / "var", "--base-port", str(base))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"countersign: port {base + 1} on 127.0.0.1 is not free (Address already in use): "
        "stop what uses it, or set console.port\n"
    )


def test_a_folder_that_cannot_be_written_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = up(tmp_path / "file")
    assert done.returncode == 1
    assert done.stderr == f"countersign: folder {tmp_path}/file can't be written: File exists\n"


def test_broken_rego_is_one_line_with_file_and_row(tmp_path: Path) -> None:
    policies = tmp_path / "policies"
    shutil.copytree(ROOT / "policies", policies)
    (policies / "gateway" / "broken.rego").write_text("package gateway.broken\n\nallow if {\n")
    done = up(tmp_path / "var", COUNTERSIGN_POLICY__SOURCE=str(policies))
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert f"{policies}/gateway/broken.rego:" in done.stderr


def test_a_mask_that_does_not_compile_stops_the_start(tmp_path: Path) -> None:
    policies = tmp_path / "policies"
    shutil.copytree(ROOT / "policies", policies)
    masks = policies / "gateway" / "masks" / "cloud" / "data.yaml"
    masks.write_text(masks.read_text().replace("A[KS]IA[A-Z0-9]{16}", "A[KS", 1))
    done = up(tmp_path / "var", COUNTERSIGN_POLICY__SOURCE=str(policies))
    assert done.returncode == 1
    why = "mask aws_access_key: the pattern is not RE2: missing ]: [KS"
    assert done.stderr == f"countersign: {masks}:7: {why}\n"


def test_bad_settings_are_all_said_at_once(tmp_path: Path) -> None:
    settings = tmp_path / "countersign.yaml"
    settings.write_text(
        "proxy: {port: 99999, colour: red}\n"
        "endpoints: {claude: {base_url: 'ftp://x', credential: sk-secret}}\n"
    )
    done = subprocess.run(
        [*COUNTERSIGN, "config", "check", str(settings)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 1
    for what in ("proxy.port", "proxy.colour", "claude.base_url", "claude.credential"):
        assert what in done.stderr
    assert "sk-secret" not in done.stderr


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_however_it_ends_no_process_is_left(tmp_path: Path, sent: signal.Signals) -> None:
    with running(tmp_path / "var") as deployment:
        pids = list(children_of(deployment).values())
        assert len(pids) >= 7
        deployment.process.send_signal(sent)
        deployment.process.wait(60)
        assert wait_until_gone(pids) == []


def test_a_child_that_cannot_come_up_at_the_first_start_ends_everything(tmp_path: Path) -> None:
    catalog = f"sqlite:///{tmp_path}/nowhere/catalog.db"
    done = up(tmp_path / "var", COUNTERSIGN_LAKE__CATALOG=catalog)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    name, _, why = done.stderr.removeprefix("countersign: ").partition(": ")
    assert name in {"recorder", "console"}
    assert why == "(sqlite3.OperationalError) unable to open database file\n"


def test_a_second_deployment_in_the_same_folder_is_one_clear_line(tmp_path: Path) -> None:
    with running(tmp_path / "var") as first:
        done = up(tmp_path / "var")
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr == (
            f"countersign: another `countersign up` (process {first.process.pid}) runs in "
            f"{tmp_path}/var: stop it, or name another --folder\n"
        )
        assert first.run("policy", "status").startswith("active revision")


def test_a_second_start_finds_what_the_first_recorded(tmp_path: Path) -> None:
    with running(tmp_path / "var") as first:
        before = first.wait_for("select exchange_id from exchanges")
    with running(tmp_path / "var") as second:
        after = second.wait_for("select exchange_id from exchanges", count=2)
    assert {row["exchange_id"] for row in before} < {row["exchange_id"] for row in after}
