"""Sessions for auditors: list, search, show, replay. Each act is asked of policy and noted.

Reads through `lake`.
"""

from dataclasses import dataclass

from aiohttp import web

from gateway.console.access import Access
from gateway.console.http import NotFound, answer_json, read_choice, read_limit, read_query
from gateway.console.queries import FILTERS, PAGE, SCOPE, Question, read_question
from gateway.console.routes import Route, names, text
from gateway.domain import Fact, Failure, Principal
from lake.read import LakeReader
from lake.shown import (
    ExchangeDetail,
    ExchangeKey,
    ExchangeSummary,
    Hit,
    Owner,
    Session,
    SessionKey,
)

SESSION = text("session_id", "Id of the session.", "path")
_EXCHANGE = text("exchange_id", "Id of the exchange.", "path")
OWNER = (
    text("issuer", "Issuer of whose session it is; one's own by default."),
    text("subject", "Subject of whose session it is; one's own by default."),
)
_LIST = (SCOPE, *FILTERS, *PAGE)
_SHOW = (SESSION, *OWNER, *PAGE)


class SessionPage(Fact, frozen=True, kw_only=True):
    """A page of sessions, the newest first."""

    sessions: list[Session]
    next: str | None
    """Cursor of the page after; None on the last."""
    incomplete: tuple[str, ...]
    """What could not be asked, so that something may lack: recorders by URL, `catalog`."""


class HitPage(Fact, frozen=True, kw_only=True):
    """A page of exchanges that a search found, the newest first."""

    exchanges: list[Hit]
    next: str | None
    """Cursor of the page after; None on the last."""
    incomplete: tuple[str, ...]
    """What could not be asked, so that something may lack: recorders by URL, `catalog`."""


class ExchangePage(Fact, frozen=True, kw_only=True):
    """A page of the exchanges of a session, the oldest first."""

    exchanges: list[ExchangeSummary]
    next: str | None
    """Cursor of the page after; None on the last."""
    incomplete: tuple[str, ...]
    """What could not be asked, so that something may lack: recorders by URL, `catalog`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sessions:
    """The routes over recorded sessions."""

    access: Access
    reader: LakeReader

    def routes(self) -> tuple[Route, ...]:
        """Return what is served here."""
        return (
            Route(
                method="GET",
                path="/api/v1/sessions",
                handler=self.list_sessions,
                summary="List sessions, the newest first, with what of each the filters let in.",
                answer=SessionPage,
                parameters=_LIST,
            ),
            Route(
                method="GET",
                path="/api/v1/sessions/{session_id}",
                handler=self.show_session,
                summary="List the exchanges of a session, the oldest first.",
                answer=ExchangePage,
                parameters=_SHOW,
            ),
            Route(
                method="GET",
                path="/api/v1/exchanges",
                handler=self.search,
                summary="Search exchanges, the newest first.",
                answer=HitPage,
                parameters=_LIST,
            ),
            Route(
                method="GET",
                path="/api/v1/exchanges/{exchange_id}",
                handler=self.show_exchange,
                summary="Show an exchange with its bodies, as recorded.",
                answer=ExchangeDetail,
                parameters=(_EXCHANGE,),
            ),
            Route(
                method="GET",
                path="/api/v1/exchanges/{exchange_id}/replay",
                handler=self.replay_exchange,
                summary="Show an exchange in order to replay it; another act to policy.",
                answer=ExchangeDetail,
                parameters=(_EXCHANGE,),
            ),
        )

    async def list_sessions(self, request: web.Request) -> web.Response:
        """List sessions: one's own, or everyone's with `scope=all`."""
        query = read_query(request, names(_LIST))
        principal, question = await self._asked(request, "sessions.list", query)
        owner, wanted, limit = _owner_of(principal, query), question.wanted, read_limit(query)
        after = question.after(SessionKey)
        page = await self.access.read(
            lambda: self.reader.sessions(owner, wanted=wanted, after=after, limit=limit)
        )
        self._note_list(principal, "records.listed", question, len(page))
        following = question.next(page[-1].key) if len(page) == limit else None
        return answer_json(
            SessionPage(sessions=page, next=following, incomplete=self.reader.incomplete)
        )

    async def search(self, request: web.Request) -> web.Response:
        """Search exchanges: one's own, or everyone's with `scope=all`."""
        query = read_query(request, names(_LIST))
        principal, question = await self._asked(request, "sessions.search", query)
        owner, wanted, limit = _owner_of(principal, query), question.wanted, read_limit(query)
        after = question.after(ExchangeKey)
        page = await self.access.read(
            lambda: self.reader.search(owner, wanted=wanted, after=after, limit=limit)
        )
        self._note_list(principal, "records.searched", question, len(page))
        following = question.next(page[-1].key) if len(page) == limit else None
        return answer_json(
            HitPage(exchanges=page, next=following, incomplete=self.reader.incomplete)
        )

    async def show_session(self, request: web.Request) -> web.Response:
        """List the exchanges of one session; whose it is say `issuer` and `subject`."""
        principal = await self.access.identify(request)
        query = read_query(request, names(_SHOW))
        session_id = request.match_info["session_id"]
        owner = named_owner(principal, query)
        await self.access.ask(principal, "sessions.read", session_id, owner, kind="session")
        question = read_question(f"session {session_id}", query, self.access.now())
        after, limit = question.after(ExchangeKey), read_limit(query)
        page = await self.access.read(
            lambda: self.reader.exchanges(owner, session_id, after=after, limit=limit)
        )
        if not page and after is None:
            raise no_session()
        self.access.note(principal, "records.read", session_id=session_id)
        following = question.next(page[-1].key) if len(page) == limit else None
        return answer_json(
            ExchangePage(exchanges=page, next=following, incomplete=self.reader.incomplete)
        )

    async def show_exchange(self, request: web.Request) -> web.Response:
        """Show one exchange with its bodies, as recorded."""
        return await self._exchange(request, "sessions.read", "records.read")

    async def replay_exchange(self, request: web.Request) -> web.Response:
        """Show one exchange to who wants to replay it."""
        return await self._exchange(request, "sessions.replay", "records.replayed")

    async def _exchange(self, request: web.Request, action: str, kind: str) -> web.Response:
        principal = await self.access.identify(request)
        read_query(request, ())
        exchange_id = request.match_info["exchange_id"]
        found = await self.access.read(lambda: self.reader.exchange(exchange_id))
        owner = Owner(found.issuer, found.subject) if found else Owner("", "")
        await self.access.ask(principal, action, exchange_id, owner, kind="exchange")
        if found is None and self.reader.incomplete:
            raise Failure("records_unavailable", "Not all records can be read now.")
        if found is None:
            raise NotFound("There is no such exchange.")
        self.access.note(principal, kind, exchange_id=exchange_id)
        return answer_json(found)

    async def _asked(
        self, request: web.Request, action: str, query: dict[str, str]
    ) -> tuple[Principal, Question]:
        """Return who asks for a list, and for what; once policy lets them."""
        principal = await self.access.identify(request)
        scope = read_choice(query, "scope", SCOPE.schema["enum"])
        await self.access.ask(principal, action, kind="sessions", scope=scope)
        return principal, read_question(action, query, self.access.now())

    def _note_list(self, principal: Principal, kind: str, question: Question, count: int) -> None:
        scope = question.texts.get("scope", "own")
        self.access.note(
            principal, kind, detail={**question.described(), "scope": scope, "count": str(count)}
        )


def _owner_of(principal: Principal, query: dict[str, str]) -> Owner | None:
    """Return whose exchanges a list is of; None for everyone's."""
    if query.get("scope") == "all":
        return None
    return Owner(principal.issuer, principal.sub)


def named_owner(principal: Principal, query: dict[str, str]) -> Owner:
    """Return whose session is meant."""
    return Owner(
        query.get("issuer", principal.issuer),
        query.get("subject", principal.sub),
    )


def no_session() -> NotFound:
    """Return the error for a session that is not there."""
    return NotFound("There is no such session.")
