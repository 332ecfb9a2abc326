"""The recorder's lag as Prometheus metrics: counts of records and bytes, no content."""

from prometheus_client import CollectorRegistry, Gauge, generate_latest

from lake.hot_answers import HotState
from lake.recorder_state import RecorderState

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def render(recorder: RecorderState, hot: HotState) -> bytes:
    """Return the metrics in Prometheus' text format."""
    registry = CollectorRegistry()
    figures = {
        "journals": (recorder.journals, "Journals on disk"),
        "unread_bytes": (sum(recorder.unread.values()), "Bytes of journals not read yet"),
        "open_exchanges": (recorder.open_exchanges, "Exchanges that have not ended"),
        "waiting_rows": (recorder.waiting_rows, "Rows read and not committed yet"),
        "waiting_bytes": (recorder.waiting_bytes, "Bytes of these"),
        "corrupt_journals": (len(recorder.corrupt_journals), "Journals with a corrupt record"),
        "failed_steps": (recorder.failures, "Steps that failed since one succeeded"),
        "last_commit_timestamp_seconds": (
            (recorder.last_commit_ns or 0) / 1e9,
            "When the tables were committed to last; 0 before the first",
        ),
        "hot_exchanges": (hot.exchanges, "Exchanges that the tables do not have yet"),
    }
    for name, (value, documentation) in figures.items():
        Gauge(f"countersign_recorder_{name}", documentation, registry=registry).set(value)
    return generate_latest(registry)
