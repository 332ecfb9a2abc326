"""The list of models as one caller may see it: the models that policy named, and no others."""

from collections.abc import AsyncIterator, Sequence
from typing import Any

import msgspec

from gateway.delivery import read_whole
from gateway.messages.sse import Unreadable, read_json
from gateway.ports import Answer, Headers

_LONGEST_PAGE = "limit=1000"


def ask_for_all(query: str) -> str:
    """Return the query of a list with the longest page that the API has.

    Clients take an empty page for the last one: a short page of which nothing is left would hide
    what comes after it.
    """
    kept = [part for part in query.split("&") if part and not part.startswith("limit=")]
    return "&".join([*kept, _LONGEST_PAGE])


class UsableModels:
    """An answer with a list of models, of which the others are taken out."""

    def __init__(self, answer: Answer, usable: Sequence[str]) -> None:
        self.status = answer.status
        self.headers: Headers = answer.headers
        self._answer = answer
        self._usable = frozenset(usable)

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the whole list.

        Raises:
            Failure: it can't be read, or breaks off.
            Unreadable: it is no list of models; an error answer passes as it is.
        """
        body = await read_whole(self._answer)
        yield body if self.status >= 400 else keep_usable(body, self._usable)

    def cancel(self) -> None:
        """Cancel the call."""
        self._answer.cancel()


def keep_usable(body: bytes, usable: frozenset[str]) -> bytes:
    """Return a page of models with those in `usable` only; one that has no other is unchanged.

    Clients ask for the next page by `first_id` and `last_id`. They name models that are shown,
    but for a page of which nothing is left and after which there is more: there they stay.

    Raises:
        Unreadable: it is no page of models.
    """
    page = read_json(body)
    models = page.get("data") if isinstance(page, dict) else None
    if not isinstance(models, list):
        raise Unreadable("it is no list of models")
    shown = [model for model in models if _id_of(model) in usable]
    if shown == models:
        return body
    if shown or not page.get("has_more"):
        ends = (_id_of(shown[0]), _id_of(shown[-1])) if shown else (None, None)
        page |= dict(zip(("first_id", "last_id"), ends, strict=True))
    return msgspec.json.encode(page | {"data": shown})


def _id_of(model: Any) -> str:
    name = model.get("id") if isinstance(model, dict) else None
    return name if isinstance(name, str) else ""
