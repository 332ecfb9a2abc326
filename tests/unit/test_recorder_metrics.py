"""The recorder's lag as a monitor reads it."""

from prometheus_client.parser import text_string_to_metric_families

from gateway.recorder_metrics import render
from lake.hot_answers import HotState
from lake.recorder_state import RecorderState


def test_every_figure_is_a_gauge_that_a_monitor_can_read() -> None:
    recorder = RecorderState(
        journals=3,
        open_exchanges=2,
        waiting_rows=5,
        waiting_bytes=500,
        unread={"j1": 10, "j2": 20},
        corrupt_journals=("j3",),
        last_commit_ns=1_500_000_000,
        failures=1,
    )
    text = render(recorder, HotState(exchanges=7, running=2, corrupt_journals=())).decode()
    families = {family.name: family for family in text_string_to_metric_families(text)}
    assert {family.type for family in families.values()} == {"gauge"}
    assert {name: family.samples[0].value for name, family in families.items()} == {
        "countersign_recorder_journals": 3,
        "countersign_recorder_unread_bytes": 30,
        "countersign_recorder_open_exchanges": 2,
        "countersign_recorder_waiting_rows": 5,
        "countersign_recorder_waiting_bytes": 500,
        "countersign_recorder_corrupt_journals": 1,
        "countersign_recorder_failed_steps": 1,
        "countersign_recorder_last_commit_timestamp_seconds": 1.5,
        "countersign_recorder_hot_exchanges": 7,
    }
