"""The demo Claude server: speaks the Messages API as the real one does, without a model.

It takes only its own key, checks what the API checks, and answers that it is a demo. Directives
in the last message of the user steer it into slowness, tool use, secrets and faults: see
`gateway.demo.directives.DIRECTIVES`. Whoever runs it must bind it to loopback.
"""

import asyncio
import hmac
import re
import secrets
from typing import TypeVar

import msgspec
from aiohttp import hdrs, web
from aiohttp.typedefs import Handler

from gateway.demo.answers import compose, sign, stream
from gateway.demo.directives import SteeringError, steer
from gateway.demo.prompts import Prompt, Question
from gateway.demo.specimens import sentence
from gateway.demo.wire import (
    REQUEST_ID,
    ApiError,
    error_response,
    json_response,
    send_message,
    send_stream,
)

DEFAULT_MODELS = (
    "claude-opus-5-5",
    "claude-opus-4-8",
    "claude-sonnet-4-6",
    "claude-haiku-4-5",
    "claude-haiku-4-5-20251001",
)
"""The models that the demo claims to serve."""

BODY_LIMIT_BYTES = 32 * 1024 * 1024
"""The largest body that the Messages API takes."""

_PAGE_LIMIT = 1000
_question_decoder = msgspec.json.Decoder(Question)
_prompt_decoder = msgspec.json.Decoder(Prompt)
_P = TypeVar("_P", bound=Prompt)


def build(key: str, *, models: tuple[str, ...] = DEFAULT_MODELS) -> web.Application:
    """Return the demo Claude as an application that takes this key only.

    Args:
        key: The endpoint's own key; it also signs thinking blocks.
        models: The ids of the models that it claims to serve.
    """
    if not key:
        raise ValueError("the demo Claude needs a key")
    claude = _Claude(key.encode(), models)
    app = web.Application(client_max_size=BODY_LIMIT_BYTES + 1, middlewares=[claude.guard])
    app.on_response_prepare.append(_mark)
    app.router.add_head("/", _alive)
    app.router.add_post("/v1/messages", claude.answer)
    app.router.add_post("/v1/messages/count_tokens", claude.count)
    app.router.add_get("/v1/models", claude.list_models, allow_head=False)
    app.router.add_get("/v1/models/{id}", claude.show_model, allow_head=False)
    return app


async def _alive(_request: web.Request) -> web.Response:
    return web.Response()


async def _mark(request: web.Request, response: web.StreamResponse) -> None:
    response.headers["request-id"] = request[REQUEST_ID]


def _as_api_error(error: Exception) -> ApiError:
    """Return what a caller is told about a request that could not be read or followed."""
    match error:
        case ApiError():
            return error
        case SteeringError() | msgspec.ValidationError():
            return ApiError(400, str(error))
        case _:
            return ApiError(400, f"The request body is not valid JSON: {error}")


class _Claude:
    """The handlers, over one key and one list of models."""

    def __init__(self, key: bytes, models: tuple[str, ...]) -> None:
        self._key = key
        self._models = models

    @web.middleware
    async def guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Let only the key in, and give every error the API's shape."""
        request[REQUEST_ID] = f"req_{secrets.token_hex(12)}"
        try:
            if (request.method, request.path) != ("HEAD", "/"):
                self._require_key(request)
            return await handler(request)
        except (ApiError, SteeringError, msgspec.DecodeError, RecursionError) as error:
            return error_response(request, _as_api_error(error))
        except web.HTTPException as error:
            message = f"{error.reason}: {request.method} {request.path}"
            response = error_response(request, ApiError(error.status, message))
            if hdrs.ALLOW in error.headers:
                response.headers[hdrs.ALLOW] = error.headers[hdrs.ALLOW]
            return response

    def _require_key(self, request: web.Request) -> None:
        """Refuse the call unless it has a credential and each one that it has is the key."""
        shown = request.headers.getall("x-api-key", [])
        for value in request.headers.getall(hdrs.AUTHORIZATION, []):
            scheme, _, token = value.partition(" ")
            shown.append(token.strip() if scheme.lower() == "bearer" else "")
        if not shown:
            raise ApiError(401, "an API key is required, in x-api-key or as a bearer token")
        matches = [
            hmac.compare_digest(value.encode("utf-8", "surrogateescape"), self._key)
            for value in shown
        ]
        if not all(matches):
            raise ApiError(401, "invalid API key")

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Answer `POST /v1/messages`."""
        question = await self._read(request, _question_decoder)
        said = question.step()
        steering, said = steer(said if question.schema is None else "")
        if steering.slow_s:
            await asyncio.sleep(steering.slow_s)
        if steering.fail is not None:
            told = " ".join(sentence(kind) for kind in steering.secrets)
            why = f"The demo was asked to fail with {steering.fail}. {told}"
            raise ApiError(steering.fail, why.strip())
        message = compose(question, steering, said, self._key)
        if question.stream:
            response = await send_stream(request, stream(message, steering), steering)
        else:
            response = await send_message(request, message, steering)
        return response

    async def count(self, request: web.Request) -> web.Response:
        """Answer `POST /v1/messages/count_tokens`; directives mean nothing here."""
        prompt = await self._read(request, _prompt_decoder)
        return json_response({"input_tokens": sum(prompt.tokens())})

    async def list_models(self, request: web.Request) -> web.Response:
        """Answer `GET /v1/models`, page by page."""
        limit, after = request.query.get("limit", "20"), request.query.get("after_id")
        if not re.fullmatch(r"[1-9][0-9]{0,3}", limit) or int(limit) > _PAGE_LIMIT:
            raise ApiError(400, f"limit: a number from 1 to {_PAGE_LIMIT} is needed")
        if after is not None and after not in self._models:
            raise ApiError(400, "after_id: no such model")
        start = 0 if after is None else self._models.index(after) + 1
        page = self._models[start : start + int(limit)]
        return json_response(
            {
                "data": [_describe(model) for model in page],
                "has_more": start + len(page) < len(self._models),
                "first_id": page[0] if page else None,
                "last_id": page[-1] if page else None,
            }
        )

    async def show_model(self, request: web.Request) -> web.Response:
        """Answer `GET /v1/models/{id}`."""
        return json_response(_describe(self._known(request.match_info["id"])))

    async def _read(self, request: web.Request, decoder: "msgspec.json.Decoder[_P]") -> _P:
        body = await request.read()
        if len(body) > BODY_LIMIT_BYTES:
            raise ApiError(413, "Request exceeds the maximum size of 32 MB")
        prompt = decoder.decode(body)
        self._known(prompt.model)
        for block in prompt.thoughts():
            if not hmac.compare_digest(
                sign(self._key, block.thinking).encode(), block.signature.encode()
            ):
                raise ApiError(400, "a `thinking` block carries a `signature` that is not ours")
        return prompt

    def _known(self, model: str) -> str:
        if model not in self._models:
            raise ApiError(404, f"model: {model}")
        return model


def _describe(model: str) -> dict[str, str]:
    family = re.sub(r"-20[0-9]{6}$", "", model)
    name = re.sub(r"(?<=[0-9]) (?=[0-9])", ".", family.replace("-", " ")).title()
    return {
        "type": "model",
        "id": model,
        "display_name": f"{name} (demo)",
        "created_at": "2026-01-01T00:00:00Z",
        "lifecycle": "active",
    }
