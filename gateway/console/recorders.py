"""Asks the recorders for what the tables do not have yet; blocking, bounded, off the loop."""

import urllib.error
import urllib.request
from http.client import HTTPException
from typing import Final, TypeVar
from urllib.parse import quote, urlencode

import msgspec

from lake.hot_answers import HotExchange, HotPage
from lake.hot_read import UnreachableError

ANSWER_S: Final = 1.0
"""Longest silence of a recorder; the tables are shown without it then."""
PAGE_PATH: Final = "/v1/hot/exchanges"

_T = TypeVar("_T")


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """The token goes to the recorder and nowhere else."""

    def redirect_request(self, *_: object) -> None:
        return None


class RecorderClient:
    """One recorder, by its URL."""

    def __init__(self, url: str, token: str) -> None:
        self.name = url
        self._token = token
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirect)

    def page(self, epoch: str, since: int, removed_since: int = 0) -> HotPage:
        """Return what changed; raises `UnreachableError`."""
        query = urlencode(
            {"epoch": epoch, "since": str(since), "removed_since": str(removed_since)}
        )
        return _decode(self._get(f"{PAGE_PATH}?{query}"), HotPage)

    def exchange(self, exchange_id: str) -> HotExchange | None:
        """Return one exchange whole; raises `UnreachableError`."""
        try:
            body = self._get(f"{PAGE_PATH}/{quote(exchange_id, safe='')}")
        except UnreachableError as e:
            if isinstance(e.__cause__, urllib.error.HTTPError) and e.__cause__.code == 404:
                return None
            raise
        return _decode(body, HotExchange)

    def _get(self, path: str) -> bytes:
        request = urllib.request.Request(  # noqa: S310 - settings take http(s) only
            self.name + path, headers={"authorization": f"Bearer {self._token}"}
        )
        try:
            with self._opener.open(request, timeout=ANSWER_S) as answer:
                body: bytes = answer.read()
        except (OSError, ValueError, HTTPException) as e:
            raise UnreachableError(self.name) from e
        return body


def _decode(body: bytes, kind: type[_T]) -> _T:
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.MsgspecError as e:
        raise UnreachableError(str(e)) from e
