"""The OpenAPI document of the console, made from the routes and the very types that answer."""

import re
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any, Final

import msgspec

from gateway.console.routes import Parameter, Route
from gateway.domain import Fact

_ERRORS: Final = {
    "400": "The request can't be read.",
    "401": "No valid token.",
    "403": "Policy says no.",
    "404": "It is not there.",
    "503": "Policy or records can't be asked now.",
}


class ErrorDetail(Fact, frozen=True, kw_only=True):
    """What went wrong."""

    type: str
    message: str
    """One sentence, with its stable code."""


class ErrorAnswer(Fact, frozen=True, kw_only=True):
    """An error, in the shape of the Messages API."""

    type: str
    error: ErrorDetail
    request_id: str


class Description(Fact, frozen=True, kw_only=True):
    """An OpenAPI document."""

    openapi: str
    info: dict[str, Any]
    security: list[dict[str, list[str]]]
    paths: dict[str, dict[str, Any]]
    components: dict[str, Any]


def describe(routes: Sequence[Route]) -> Description:
    """Return the document of some routes."""
    kinds = {kind for each in routes for kind in (each.answer, each.posted)}
    types = [ErrorAnswer, *sorted((k for k in kinds if isinstance(k, type)), key=_name)]
    schemas, components = msgspec.json.schema_components(
        types, ref_template="#/components/schemas/{name}"
    )
    by_type = dict(zip(types, schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, by_type)
    return Description(
        openapi="3.1.0",
        info={
            "title": "Countersign console",
            "version": version("countersign"),
            "description": "Recorded sessions and approvals. Policy decides about each call; "
            "reading a record is itself an event.",
        },
        security=[{"token": []}],
        paths=paths,
        components={
            "schemas": components,
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}
            },
        },
    )


def _operation(route: Route, by_type: dict[type, dict[str, Any]]) -> dict[str, Any]:
    errors = () if route.is_open else _ERRORS.items()
    wrong = {"application/json": {"schema": by_type[ErrorAnswer]}}
    operation: dict[str, Any] = {
        "operationId": _operation_id(route),
        "summary": route.summary,
        "parameters": [_parameter(each) for each in route.parameters],
        "responses": {
            "200": {"description": "As asked.", "content": _content(route, by_type)},
            **{status: {"description": said, "content": wrong} for status, said in errors},
        },
    }
    if route.is_open:
        operation["security"] = []
    if route.posted is not None:
        posted = {"application/json": {"schema": by_type[route.posted]}}
        operation["requestBody"] = {"required": True, "content": posted}
        operation["responses"]["409"] = {"description": "It is too late.", "content": wrong}
    return operation


def _content(route: Route, by_type: dict[type, dict[str, Any]]) -> dict[str, Any]:
    if isinstance(route.answer, tuple):
        return {media_type: {"schema": {"type": "string"}} for media_type in route.answer}
    return {"application/json": {"schema": by_type[route.answer]}}


def _parameter(parameter: Parameter) -> dict[str, Any]:
    return {
        "name": parameter.name,
        "in": parameter.place,
        "required": parameter.place == "path",
        "description": parameter.text,
        "schema": parameter.schema,
    }


def _operation_id(route: Route) -> str:
    words = re.findall(r"[a-z0-9]+", route.path.removeprefix("/api/v1"))
    return "_".join([route.method.lower(), *words])


def _name(kind: type) -> str:
    return kind.__name__
