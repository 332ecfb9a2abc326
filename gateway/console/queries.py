"""What a list asks for: filter and page, read from a query; pure.

A cursor belongs to the question that made it, and keeps the time from which `2h` counts.
"""

import base64
import hashlib
import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Annotated, Any, Final, TypeVar

import msgspec

from gateway.console.http import DEFAULT_PAGE, LARGEST_PAGE
from gateway.console.routes import Parameter, choice, text
from gateway.domain import NOT_JSON, Fact, Refusal, Strict
from lake.filters import CONDITIONS, SENTENCES, Filter

_K = TypeVar("_K")
_Time = Annotated[datetime, msgspec.Meta(tz=True)]
_AGO: Final = re.compile(r"([0-9]{1,5})([smhdw])", re.ASCII)
_UNITS: Final = {
    "s": timedelta(seconds=1),
    "m": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
    "w": timedelta(weeks=1),
}
TIME_FORMS: Final = "`90s`, `15m`, `2h`, `3d`, `1w` ago, or a time as RFC 3339"


FILTERS: Final = tuple(
    text(name, f"{said} {TIME_FORMS}." if name in {"since", "until"} else said)
    for name, said in SENTENCES.items()
)
LIMIT: Final = Parameter(
    name="limit",
    text="How many at most.",
    schema={"type": "integer", "minimum": 1, "maximum": LARGEST_PAGE, "default": DEFAULT_PAGE},
)
PAGE: Final = (LIMIT, text("after", "The `next` of the page before; the filters stay the same."))
SCOPE: Final = choice("scope", "One's own, or everyone's.", "own", "all")


class _Cursor(Strict, frozen=True, kw_only=True):
    of: str
    """Digest of the question."""
    at: datetime
    """When its first page was asked for."""
    key: msgspec.Raw


class Question(Fact, frozen=True, kw_only=True):
    """What a page is a page of."""

    subject: str
    """What is listed."""
    texts: dict[str, str]
    """The query but for page and length."""
    at: datetime
    """From which relative times count."""
    cursor: _Cursor | None = None

    @property
    def wanted(self) -> Filter:
        """The filter; raises `Refusal` where it can't be read."""
        return read_filter(self.texts, self.at)

    def after(self, kind: type[_K]) -> _K | None:
        """Return where the page begins."""
        if self.cursor is None:
            return None
        try:
            return msgspec.json.decode(self.cursor.key, type=kind)
        except NOT_JSON as e:
            raise _no_cursor() from e

    def next(self, key: object) -> str:
        """Return the cursor of the page that begins after a key."""
        raw = msgspec.Raw(msgspec.json.encode(key))
        cursor = _Cursor(of=self._digest(), at=self.at, key=raw)
        return base64.urlsafe_b64encode(msgspec.json.encode(cursor)).decode()

    def takes(self, cursor: _Cursor) -> bool:
        """Return whether a cursor was made by this very question."""
        return cursor.of == self._digest()

    def described(self) -> dict[str, str]:
        """Return the question for an audit event: of a text only its length, it may be a secret."""
        return {
            name: f"{len(value)} characters" if name == "text" else value
            for name, value in self.texts.items()
        }

    def _digest(self) -> str:
        asked = msgspec.json.encode([self.subject, sorted(self.texts.items())])
        return hashlib.sha256(asked).hexdigest()[:32]


def read_question(subject: str, query: Mapping[str, str], now: datetime) -> Question:
    """Return what a query asks for; a cursor of another question is refused."""
    texts = {name: value for name, value in query.items() if name not in {"after", "limit"}}
    question = Question(subject=subject, texts=texts, at=now)
    if not query.get("after"):
        return question
    try:
        decoded = base64.b64decode(query["after"], altchars=b"-_", validate=True)
        cursor = msgspec.json.decode(decoded, type=_Cursor)
    except (ValueError, *NOT_JSON) as e:
        raise _no_cursor() from e
    if not question.takes(cursor):
        raise _no_cursor()
    return msgspec.structs.replace(question, at=cursor.at, cursor=cursor)


def read_filter(texts: Mapping[str, str], now: datetime) -> Filter:
    """Return the filter that a query names."""
    values: dict[str, Any] = {name: texts[name] for name in CONDITIONS if name in texts}
    for name in ("since", "until"):
        if name in values:
            values[name] = read_time(values[name], now)
    try:
        return msgspec.convert(values, Filter)
    except NOT_JSON as e:
        raise Refusal("request.invalid", f"The filter can't be read: {e}.") from e


def read_time(text: str, now: datetime) -> datetime:
    """Return the time that a text names: so long ago, or RFC 3339."""
    ago = _AGO.fullmatch(text)
    if ago is not None:
        return now - int(ago[1]) * _UNITS[ago[2]]
    try:
        return msgspec.convert(text, _Time)
    except NOT_JSON as e:
        raise Refusal("request.invalid", f"A time is {TIME_FORMS}, with its zone.") from e


def _no_cursor() -> Refusal:
    return Refusal("request.invalid", "after is the `next` of a page with the same filters.")
