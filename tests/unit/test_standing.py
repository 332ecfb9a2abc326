"""What is wrong with a deployment, told in sentences that say what to do."""

from typing import Any

import msgspec
import pytest

from gateway.cli.standing import JournalStanding, PolicyStanding, Standing, find_problems
from gateway.published import ProcessesReport, ProcessReport
from gateway.recorder_report import RecorderReport
from lake.recorder_state import RecorderState

SECOND = 10**9
NOW_NS = 1_800_000_000 * SECOND
MB = 2**20

WORKER = ProcessReport(
    name="proxy-1", pid=7, state="running", restarts=0, started_ns=NOW_NS, last_end=""
)
JOURNAL = JournalStanding(
    journal_id="proxy_1", is_written=True, kept_bytes=9, unread_bytes=0, is_corrupt=False
)
GOOD = Standing(
    at_ns=NOW_NS,
    folder="/var/cs",
    processes=ProcessesReport(at_ns=NOW_NS, pid=1, processes=(WORKER,)),
    recorder=RecorderReport(at_ns=NOW_NS, renewed_ns=NOW_NS, state=RecorderState()),
    journals=(JOURNAL,),
    free_bytes=500 * MB,
    floor_bytes=128 * MB,
    policy=PolicyStanding(revision="r1"),
)


def processes(at_ns: int = NOW_NS, **changes: Any) -> ProcessesReport:
    changed = msgspec.structs.replace(WORKER, **changes)
    return ProcessesReport(at_ns=at_ns, pid=1, processes=(changed,))


def recorder(at_s: int = 0, renewed_s: int = 0, **state: Any) -> RecorderReport:
    return RecorderReport(
        at_ns=NOW_NS + at_s * SECOND,
        renewed_ns=NOW_NS + renewed_s * SECOND,
        state=RecorderState(**state),
    )


def damaged(*, is_written: bool) -> tuple[JournalStanding, ...]:
    return (msgspec.structs.replace(JOURNAL, is_corrupt=True, is_written=is_written),)


def test_nothing_is_wrong_with_a_deployment_that_works() -> None:
    assert find_problems(GOOD) == []


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        pytest.param(
            {"processes": None}, "no `countersign up` runs in /var/cs: start it", id="never ran"
        ),
        pytest.param(
            {"processes": processes(at_ns=NOW_NS - 11 * SECOND)},
            "no `countersign up` runs in /var/cs: start it",
            id="was killed",
        ),
        pytest.param(
            {"processes": processes(state="waiting", restarts=3, last_end="exit 1")},
            "proxy-1 is waiting, after 3 restarts (its last end: exit 1): "
            "read /var/cs/log/proxy-1.log",
            id="a child that keeps dying",
        ),
        pytest.param(
            {"recorder": None},
            "the recorder says nothing of itself: read /var/cs/log/recorder.log; "
            "records wait in the journals",
            id="no recorder",
        ),
        pytest.param(
            {"recorder": recorder(at_s=-11)},
            "the recorder says nothing of itself: read /var/cs/log/recorder.log; "
            "records wait in the journals",
            id="a recorder that stands still",
        ),
        pytest.param(
            {"recorder": recorder(failures=4)},
            "the recorder failed 4 times in a row: see in /var/cs/log/recorder.log what it lacks; "
            "records wait in the journals",
            id="no catalog",
        ),
        pytest.param(
            {"recorder": recorder(renewed_s=-90)},
            "the recorder has hung for 90 s: read /var/cs/log/recorder.log",
            id="a recorder that hangs",
        ),
        pytest.param(
            {"free_bytes": 100 * MB},
            "100 MB are free under /var/cs/journal, less than journal.min_free_mb (128), "
            "so calls are refused: make room",
            id="a full disk",
        ),
        pytest.param(
            {"journals": damaged(is_written=True)},
            "journal proxy_1 is damaged, and what follows is in no table: copy "
            "/var/cs/journal/proxy_1 away, and end its process, to begin a new one",
            id="a damaged journal",
        ),
        pytest.param(
            {"journals": damaged(is_written=False)},
            "journal proxy_1 is damaged, and what follows is in no table: copy "
            "/var/cs/journal/proxy_1 away",
            id="a damaged journal of the dead",
        ),
        pytest.param(
            {"policy": PolicyStanding(error="OPA can't be reached")},
            "OPA can't be reached: read /var/cs/log/relay.log and /var/cs/log/opa.log",
            id="no OPA",
        ),
        pytest.param(
            {"policy": PolicyStanding()},
            "OPA has no active policy, so calls are refused: read /var/cs/log/relay.log",
            id="no policy",
        ),
        pytest.param(
            {"limits": None},
            "the state database can't be read, so limited and held calls are refused: see that "
            "the one that state.url names is there",
            id="no state database",
        ),
    ],
)
def test_what_is_wrong_is_a_sentence(changes: dict[str, Any], problem: str) -> None:
    assert find_problems(msgspec.structs.replace(GOOD, **changes)) == [problem]
