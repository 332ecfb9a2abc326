"""Echoes: values in an answer that the caller's own request already holds."""

from collections.abc import Iterator
from typing import Any, Literal

EchoRule = Literal["allow", "mask", "refuse"]


class Echo:
    """What happens to echoes in one answer. The request is looked through on the first hit only."""

    def __init__(self, rule: EchoRule = "refuse", request: Any = None) -> None:
        """Begin; `request` is the parsed body as the caller sent it."""
        self.rule: EchoRule = rule
        self._request = request
        self._strings: list[str] | None = None

    def holds(self, value: str) -> bool:
        """Say whether the caller's request has a value, in one string or line by line in several.

        Tools number the lines of what they read, so lines count on their own.
        """
        if self._strings is None:
            self._strings = list(_strings(self._request))
        return self._has(value) or all(
            self._has(line.strip()) for line in value.splitlines() or [value]
        )

    def _has(self, text: str) -> bool:
        return any(text in string for string in self._strings or ())


def _strings(root: Any) -> Iterator[str]:
    stack = [root]
    while stack:
        value = stack.pop()
        if isinstance(value, str):
            yield value
        elif isinstance(value, dict):
            stack += value.values()
        elif isinstance(value, list):
            stack += value
