"""What the writers of documents share: their Protocol, the head, and the facts of an exchange."""

from datetime import datetime
from typing import Protocol

from gateway.domain import Fact
from lake.shown import ExchangeDetail, Owner


class Head(Fact, frozen=True, kw_only=True):
    """What a document is of, and who made it."""

    session_id: str
    owner: Owner
    exported_at: datetime
    exported_by: str


class Writer(Protocol):
    """Writes one document part by part, so that a long session is never in memory whole."""

    def begin(self) -> str:
        """Return how the document begins."""

    def exchange(self, found: ExchangeDetail) -> str:
        """Return the part of the next exchange."""

    def end(self) -> str:
        """Return how the document ends; without it, it is not whole."""


def format_time(at: datetime) -> str:
    """Return a time for people, in UTC."""
    return f"{at:%Y-%m-%d %H:%M:%S} UTC"


def facts_of(found: ExchangeDetail) -> list[tuple[str, str]]:
    """Return what is known of an exchange beside what was said, as names and sentences."""
    groups = f" ({', '.join(found.groups)})" if found.groups else ""
    first = found.time_to_first_byte_ms
    timing = f"{found.duration_ms:,.0f} ms" + (
        f", first byte after {first:,.0f} ms" if first is not None else ""
    )
    because = " ".join(found.reason_messages)
    masks = (f"{m.rule} x{m.count} in {m.place}" for m in found.masks_applied)
    pairs = (
        ("who", f"{found.subject}{groups} at {found.issuer}"),
        ("call", f"{found.method} {found.path}"),
        ("model", found.response_model or found.request_model),
        ("endpoint", found.endpoint),
        ("decision", " ".join([found.outcome, ", ".join(found.reasons)])),
        ("because", because),
        ("policy", found.policy_revision),
        ("approval", " by ".join(filter(None, [found.approval_id, ", ".join(found.approvers)]))),
        ("masked", ", ".join(masks)),
        ("recording", ", ".join([found.recording_content, *found.recording_reasons])),
        ("retention", found.retention_class),
        ("ending", " ".join([found.ending, str(found.status or ""), found.error_code or ""])),
        ("error", found.error_message if found.error_message != because else None),
        ("stopped", found.stop_reason),
        ("tokens", _tokens(found)),
        ("timing", timing),
        ("record", f"{found.journal_id} #{found.sequence}"),
    )
    return [(name, str(value).strip()) for name, value in pairs if value and str(value).strip()]


def _tokens(found: ExchangeDetail) -> str:
    counts = ((found.input_tokens, "in"), (found.output_tokens, "out"))
    return ", ".join(f"{count:,} {side}" for count, side in counts if count is not None)
