"""The export of a session as one document, streamed: a long session is never in memory whole."""

import asyncio
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial

from aiohttp import web

from gateway.console.access import Access
from gateway.console.exports import FORMATS, Head
from gateway.console.http import read_choice, read_query
from gateway.console.routes import Route, choice, names
from gateway.console.sessions import OWNER, SESSION, named_owner, no_session
from gateway.domain import Failure
from lake.read import LakeReader
from lake.shown import ExchangeDetail, ExchangeSummary, Owner

EXPORT_PAGE = 100
_EXPORT = (SESSION, *OWNER, choice("format", "Form of the document.", *FORMATS))

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Exporting:
    """The route that exports a session."""

    access: Access
    reader: LakeReader

    def routes(self) -> tuple[Route, ...]:
        """Return what is served here."""
        return (
            Route(
                method="GET",
                path="/api/v1/sessions/{session_id}/export",
                handler=self.export_session,
                summary="Export a whole session as one document.",
                answer=tuple(each.media_type for each in FORMATS.values()),
                parameters=_EXPORT,
            ),
        )

    async def export_session(self, request: web.Request) -> web.StreamResponse:
        """Export a session; what could not be ended is cut off, never made to look whole."""
        principal = await self.access.identify(request)
        query = read_query(request, names(_EXPORT))
        session_id = request.match_info["session_id"]
        owner = named_owner(principal, query)
        form = FORMATS[read_choice(query, "format", tuple(FORMATS))]
        await self.access.ask(principal, "sessions.export", session_id, owner, kind="session")
        first = await self.access.read(
            partial(self.reader.exchanges, owner, session_id, limit=EXPORT_PAGE)
        )
        if not first:
            raise no_session()
        self.access.note(
            principal, "records.exported", session_id=session_id, detail={"format": form.suffix}
        )
        writer = form.writer(
            Head(
                session_id=session_id,
                owner=owner,
                exported_at=self.access.now(),
                exported_by=principal.person,
            )
        )
        response = web.StreamResponse(
            headers={
                "content-type": f"{form.media_type}; charset=utf-8",
                "content-disposition": f'attachment; filename="session.{form.suffix}"',
                "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; sandbox",
                "x-content-type-options": "nosniff",
            }
        )
        await response.prepare(request)
        await response.write(_encode(writer.begin()))
        try:
            async for exchange in self._details(owner, session_id, first):
                part = await asyncio.to_thread(writer.exchange, exchange)
                await response.write(_encode(part))
        except Failure:
            _log.warning("export_cut")
            if request.transport is not None:
                request.transport.abort()
            return response
        await response.write(_encode(writer.end()))
        return response

    async def _details(
        self, owner: Owner, session_id: str, page: list[ExchangeSummary]
    ) -> AsyncIterator[ExchangeDetail]:
        """Yield the exchanges of a session with their bodies, the oldest first."""
        while page:
            for each in page:
                found = await self.access.read(partial(self.reader.exchange, each.exchange_id))
                if found is None or self.reader.incomplete:
                    raise Failure("records_unavailable", "Not all of the session can be read now.")
                yield found
            page = await self.access.read(
                partial(
                    self.reader.exchanges,
                    owner,
                    session_id,
                    after=page[-1].key,
                    limit=EXPORT_PAGE,
                )
            )


def _encode(text: str) -> bytes:
    return text.encode("utf-8", "replace")
