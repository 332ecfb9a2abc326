"""How a route of the console is declared: what serves it and what its document says."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from aiohttp import web


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """A parameter of the query or the path."""

    name: str
    text: str
    """What it is, in one sentence."""
    schema: dict[str, Any]
    place: str = "query"


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """A route with all that the OpenAPI document says of it."""

    method: str
    path: str
    handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    summary: str
    answer: type | tuple[str, ...]
    """The type that is answered as JSON, or the media types of a document."""
    parameters: tuple[Parameter, ...] = ()
    posted: type | None = None
    is_open: bool = False
    """Whether no token is needed."""


def text(name: str, said: str, place: str = "query") -> Parameter:
    """Return a parameter of any text."""
    return Parameter(name=name, text=said, schema={"type": "string"}, place=place)


def choice(name: str, said: str, *values: str) -> Parameter:
    """Return a parameter with one of several values; the first is the default."""
    schema = {"type": "string", "enum": list(values), "default": values[0]}
    return Parameter(name=name, text=said, schema=schema)


def names(parameters: tuple[Parameter, ...]) -> tuple[str, ...]:
    """Return the names of the parameters of the query."""
    return tuple(each.name for each in parameters if each.place == "query")
