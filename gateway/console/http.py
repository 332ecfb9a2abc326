"""What the console's routes share of HTTP: queries read strictly, JSON out, errors answered."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

import msgspec
from aiohttp import web

from gateway.domain import NOT_JSON, Failure, GatewayError, Refusal, Unauthenticated
from gateway.messages.errors import error_body

DEFAULT_PAGE = 50
LARGEST_PAGE = 500

_T = TypeVar("_T")


class NotFound(GatewayError):
    """What was asked for is not there."""

    def __init__(self, message: str) -> None:
        super().__init__("not_found", message)


def answer_json(value: Any) -> web.Response:
    """Return a value as the answer."""
    return web.Response(body=msgspec.json.encode(value), content_type="application/json")


def decode(body: bytes, kind: type[_T]) -> _T:
    """Return what was posted."""
    try:
        return msgspec.json.decode(body, type=kind)
    except NOT_JSON as e:
        raise Refusal("request.invalid", f"The request can't be read: {e}.") from e


def read_query(request: web.Request, names: tuple[str, ...]) -> dict[str, str]:
    """Return the query's parameters; an unknown or repeated one is refused, never ignored."""
    query = dict(request.query)
    unknown = sorted(query.keys() - set(names))
    if unknown or len(query) != len(request.query):
        what = f"Unknown: {', '.join(unknown)}." if unknown else "Give each only once."
        raise Refusal("request.invalid", f"The query takes {', '.join(names)}. {what}")
    return query


def read_choice(query: Mapping[str, str], name: str, choices: tuple[str, ...]) -> str:
    """Return a parameter that has one of several values, the first by default."""
    value = query.get(name, choices[0])
    if value not in choices:
        raise Refusal("request.invalid", f"{name} is one of {', '.join(choices)}.")
    return value


def read_limit(query: Mapping[str, str]) -> int:
    """Return how long the page may be."""
    text = query.get("limit", str(DEFAULT_PAGE))
    if not text.isascii() or not text.isdigit() or not 1 <= int(text[:6]) <= LARGEST_PAGE:
        raise Refusal("request.invalid", f"limit is a number from 1 to {LARGEST_PAGE}.")
    return int(text)


def answering_errors(new_id: Callable[[str], str]) -> Any:
    """Return the middleware that answers errors in the API's shape."""

    @web.middleware
    async def answer_errors(
        request: web.Request,
        handler: Callable[[web.Request], Awaitable[web.StreamResponse]],
    ) -> web.StreamResponse:
        try:
            return await handler(request)
        except NotFound as e:
            status, message = 404, str(e)
        except Unauthenticated as e:
            status, message = 401, e.message
        except (Refusal, Failure) as e:
            status, message = e.status, f"{e.message} [{e.code}]"
        except web.HTTPException as e:
            status, message = e.status, e.reason
        return web.Response(
            body=error_body(status, message, new_id("req")),
            status=status,
            content_type="application/json",
        )

    return answer_errors
