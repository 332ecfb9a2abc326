"""Journals on disks that fill up or become read-only: refused, cut, told, and nothing lost."""

import os
import signal
import time
from contextlib import ExitStack
from pathlib import Path

import pytest
from evasions.calls import (
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
from support.disks import filled, small_disk, unwritable

from gateway.journal import SYNC_EVERY_S

DISK_MB = 48
FLOOR_MB = 8
ENVIRONMENT = {
    "COUNTERSIGN_JOURNAL__MIN_FREE_MB": str(FLOOR_MB),
    "COUNTERSIGN_PROXY__WORKERS": "1",
}
FAILURE = Told(status=503, kind="api_error", code="recording_unavailable", retry="later")


def call(deployment: Deployment, agent: str) -> Told | int:
    data = request(encode(prompt()), token=token_for(deployment), agent=agent)
    reply = send(deployment, data)
    return read_told(reply) if reply.status >= 400 else reply.status


def call_until_answered(deployment: Deployment, agent: str) -> int:
    """Return how many calls were refused before one was answered."""
    until = time.monotonic() + 20
    refused = 0
    while True:
        try:
            if call(deployment, agent) == 200:
                return refused
            refused += 1
        except OSError:  # nobody listens yet
            pass
        assert time.monotonic() < until
        time.sleep(0.2)


@pytest.mark.parametrize(
    "left_bytes",
    [pytest.param(FLOOR_MB * 2**19, id="the reserve"), pytest.param(0, id="nothing")],
)
def test_a_disk_that_is_full_but_for(tmp_path: Path, left_bytes: int) -> None:
    journals = tmp_path / "var" / "journal"
    with (
        small_disk(journals, DISK_MB),
        running(tmp_path / "var", environment=ENVIRONMENT) as deployment,
        ExitStack() as fullness,
    ):
        stream = encode(prompt("[[demo length=600 pace=40]]", stream=True))
        reply = send(
            deployment,
            request(stream, token=token_for(deployment), agent="cut/one"),
            soon=lambda: fullness.enter_context(filled(journals, but_bytes=left_bytes)),
        )
        time.sleep(SYNC_EVERY_S)
        told = [call(deployment, f"refused/{number}") for number in range(3)]
        fullness.close()
        count = 3 + call_until_answered(deployment, "after/one")
        rows = deployment.wait_for("select * from events where kind = 'recording.failed'")
        cut = fetch_records(deployment, ["cut/one"], "ending", "error_code", "released_bytes")
        refused = deployment.sql("select 1 from exchanges where user_agent like 'refused/%'")
        released = deployment.sql(
            "select hex(c.data) as data from contents c join exchanges e using (exchange_id) "
            "where e.user_agent = 'cut/one' and c.side = 'response'"
        )
    last = read_events(reply)[-1]
    assert (reply.status, reply.is_whole, last["type"]) == (200, True, "error")
    assert "[recording_unavailable, exch_" in last["error"]["message"]
    assert told == [FAILURE] * 3
    assert (len(rows), refused) == (1, [])
    assert (rows[0]["reason"], rows[0]["count"]) == ("recording_unavailable", count + 1)
    assert rows[0]["detail_json"].endswith(f'"refused":{count},"cut":1}}')
    failed = {"ending": "failed", "error_code": "recording_unavailable"}
    assert cut == {"cut/one": {**failed, "released_bytes": len(reply.body)}}
    assert [bytes.fromhex(row["data"]) for row in released] == [reply.body]


def test_a_worker_that_finds_no_writable_folder_comes_back_when_there_is_one(
    tmp_path: Path,
) -> None:
    with running(tmp_path / "var", environment=ENVIRONMENT) as deployment:
        with unwritable(tmp_path / "var" / "journal"):
            os.kill(deployment.processes["proxy-1"].pid, signal.SIGKILL)
            until = time.monotonic() + 20
            while deployment.processes["proxy-1"].restarts < 2:
                assert time.monotonic() < until
                time.sleep(0.1)
            with pytest.raises(OSError, match="refused"):
                call(deployment, "read-only/one")
        call_until_answered(deployment, "read-only/two")
        query = "select detail_json from events where kind = 'process.restarted' order by 1"
        ends = [row["detail_json"] for row in deployment.wait_for(query, 2)]
    assert '{"process":"proxy-1","end":"SIGKILL","restart":1}' in ends
    assert '{"process":"proxy-1","end":"exit 1","restart":2}' in ends


def test_a_start_in_a_folder_that_is_read_only_is_one_clear_line(tmp_path: Path) -> None:
    folder = tmp_path / "var"
    folder.mkdir()
    with (
        unwritable(folder),
        pytest.raises(AssertionError, match=f"folder {folder} can't be written: Operation not"),
        running(folder),
    ):
        pass
