"""Which exchanges are asked for: one type, and the one condition that every query makes of it.

Every value goes in as a parameter. Knows no table's place and nobody's rights.
"""

from datetime import datetime
from typing import Annotated, Final, NamedTuple

import msgspec

from lake.shown import Owner

_Text = Annotated[str, msgspec.Meta(min_length=1, max_length=1000)]


def _said(text: str) -> msgspec.Meta:
    return msgspec.Meta(description=text)


class Filter(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What exchanges must have; what is None does not matter."""

    person: Annotated[_Text | None, _said("Who asked: the person, or the subject.")] = None
    group: Annotated[_Text | None, _said("A group that the caller had.")] = None
    model: Annotated[_Text | None, _said("Model that was asked for, or that answered.")] = None
    endpoint: Annotated[_Text | None, _said("Endpoint that the decision named.")] = None
    since: Annotated[datetime | None, _said("Started then or later.")] = None
    until: Annotated[datetime | None, _said("Started before then.")] = None
    outcome: Annotated[_Text | None, _said("Of the last decision: allow, deny or hold.")] = None
    reason: Annotated[_Text | None, _said("Code of a denial, an approval or an error.")] = None
    revision: Annotated[_Text | None, _said("Policy revision that decided last.")] = None
    mask: Annotated[_Text | None, _said("Masking rule that matched.")] = None
    tool: Annotated[_Text | None, _said("Tool that the answer calls.")] = None
    ending: Annotated[
        _Text | None, _said("How it ended: delivered, refused, failed, cancelled, interrupted.")
    ] = None
    text: Annotated[_Text | None, _said("Text in prompt or answer, in any case.")] = None


SENTENCES: Final[dict[str, str]] = {
    name: field["description"]
    for name, field in msgspec.json.schema(Filter)["$defs"]["Filter"]["properties"].items()
}
"""What each field asks for, in words."""


class Condition(NamedTuple):
    """A condition on the rows of `exchanges`, and the values of its parameters in order."""

    sql: str
    values: list[object]


CONDITIONS: Final = {
    "person": "(person = ? OR subject = ?)",
    "group": "list_contains(groups, ?)",
    "model": "(request_model = ? OR response_model = ?)",
    "endpoint": "endpoint = ?",
    "since": "started_at >= ?",
    "until": "started_at < ?",
    "outcome": "outcome = ?",
    "reason": (
        "(list_contains(reasons, ?) OR list_contains(approval_reasons, ?) OR error_code = ?)"
    ),
    "revision": "policy_revision = ?",
    "mask": "list_contains(list_transform(masks_applied, lambda mask: mask.rule), ?)",
    "tool": "list_contains(tool_calls, ?)",
    "ending": "ending = ?",
    "text": "(contains(lower(prompt_text), lower(?)) OR contains(lower(response_text), lower(?)))",
}
"""What each field of a filter asks of a row; every mark takes the field's value."""


def condition_of(wanted: Filter, owner: Owner | None = None) -> Condition:
    """Return the condition for what is wanted of an owner's exchanges, or everyone's."""
    parts, values = ["true"], list[object]()
    if owner is not None:
        parts.append("issuer = ? AND subject = ?")
        values += owner
    for name, sql in CONDITIONS.items():
        value = getattr(wanted, name)
        if value is not None:
            parts.append(sql)
            values += [value] * sql.count("?")
    return Condition(" AND ".join(parts), values)
