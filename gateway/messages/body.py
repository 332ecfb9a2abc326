"""A request body: bytes to JSON, strictly, so that everyone who reads it reads the same.

A body that two parsers could read differently (duplicate keys, lone surrogates, not UTF-8) or that
is made to exhaust one (depth, number of values) is refused before any fact is drawn from it.
"""

import json
import re
from typing import Any

from gateway.domain import Refusal

MAX_BODY_BYTES = 32 * 1024 * 1024
"""The API's own limit for Messages and count_tokens."""
MAX_DEPTH = 200
"""Tool schemas of real clients nest about 20 deep."""
MAX_VALUES = 250_000
"""A 200-turn coding session has about 10,000."""

_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


class _DuplicateKey(ValueError):
    pass


def parse(body: bytes) -> dict[str, Any]:
    """Return the JSON object that `body` holds.

    Raises:
        Refusal: 400 with one sentence that says what is wrong with the body.
    """
    _check_bounds(body)
    try:
        value = _decoder.decode(body.decode("utf-8"))
    except UnicodeDecodeError as e:
        raise _refuse("body.not_utf8", f"it is not valid UTF-8 at byte {e.start}") from e
    except _DuplicateKey as e:
        raise _refuse("body.duplicate_key", f"the key {e} occurs twice in one object") from e
    except RecursionError as e:
        raise _refuse("body.too_deep", f"it nests deeper than {MAX_DEPTH} levels") from e
    except ValueError as e:
        raise _refuse("body.not_json", f"it is not valid JSON ({e})") from e
    if not isinstance(value, dict):
        raise _refuse("body.not_object", "it must be a JSON object")
    if _SURROGATE.search(body):
        _check_surrogates(value)
    return value


def _refuse(code: str, why: str) -> Refusal:
    return Refusal(code, f"The request body can't be read: {why}.")


def _check_bounds(body: bytes) -> None:
    """Count values and depth; exactly only where the cheap upper bound is not enough."""
    brackets = body.count(b"[") + body.count(b"{")
    if brackets <= MAX_DEPTH and brackets + body.count(b",") < MAX_VALUES:
        return
    skeleton = _STRING.sub(b"", body)
    opened = skeleton.count(b"[") + skeleton.count(b"{")
    if opened + skeleton.count(b",") >= MAX_VALUES:
        raise _refuse("body.too_many_values", f"it holds more than {MAX_VALUES} values")
    depth = 0
    for bracket in skeleton.translate(None, _NOT_BRACKETS):
        depth += 1 if bracket in b"[{" else -1
        if depth > MAX_DEPTH:
            raise _refuse("body.too_deep", f"it nests deeper than {MAX_DEPTH} levels")


def _check_surrogates(value: dict[str, Any]) -> None:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as e:
        raise _refuse("body.not_unicode", "an escape names half a surrogate pair") from e


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    unique = dict(pairs)
    if len(unique) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise _DuplicateKey(json.dumps(twice[:64]))
    return unique


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


_decoder = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_constant)
