"""What stands in the place of a masked value."""

import hashlib
import hmac
import re
from collections.abc import Callable
from typing import Final

Tagger = Callable[[str], str]
"""Gives a value a short tag: the same value, the same tag, and nobody can tell it back."""

TAGGED_CHARS: Final = 16_384
"""A tag covers a value's first characters up to here: what is swallowed has no limit."""

_TAG_BYTES = 4
_LONGEST_FILLED = 128
_SAFE = re.compile(r"""[^"\\\x00-\x1f\x7f-\x9f]+""")
_TAG = re.compile(r"[^A-Za-z0-9\[<({]?\{tag\}")
"""With the sign that sets it apart, which goes where there is no tag."""


def keyed_tagger(key_of: Callable[[], bytes]) -> Tagger:
    """Return what tags values under a session's key: HMAC-SHA256, 8 hex digits.

    The key is asked for with the first value: most answers have none.
    """
    key = b""

    def tag(value: str) -> str:
        nonlocal key
        key = key or key_of()
        digest = hmac.digest(key, value.encode("utf-8", "surrogatepass"), hashlib.sha256)
        return digest[:_TAG_BYTES].hex()

    return tag


class Template:
    """A replacement with `{rule}` and `{tag}`; without a tagger `{tag}` is left out."""

    def __init__(self, rule: str, text: str) -> None:
        """Take in a template.

        Raises:
            ValueError: it has another placeholder, or a character that needs an escape in JSON.
        """
        if not _SAFE.fullmatch(text):
            raise ValueError("quotes, backslashes and control characters can't be in a replacement")
        if "{" in (rest := text.replace("{rule}", "").replace("{tag}", "")) or "}" in rest:
            raise ValueError("a replacement knows {rule} and {tag} only")
        named = text.replace("{rule}", rule)
        self.untagged: Final = _TAG.sub("", named)
        """What it is without a tag."""
        self._parts = named.split("{tag}")
        self._opening = text.partition("{")[0]
        form = re.escape(_TAG.sub("{tag}", text)).replace(
            re.escape("{rule}"), r"[A-Za-z0-9_]{1,64}"
        )
        self._filled = re.compile(form.replace(re.escape("{tag}"), r"(?:.?[0-9a-f]{8})?"))

    def find_filled(self, text: str, start: int) -> tuple[int, bool]:
        """Say where a replacement of this form ends that stands at `start`, else `start`.

        And whether one could be about to be there, if more text came.
        """
        found = self._filled.match(text, start)
        if found or not self._opening:
            return found.end() if found else start, False
        rest = text[start : start + _LONGEST_FILLED]
        opened = rest[: len(self._opening)]
        return start, len(rest) < _LONGEST_FILLED and self._opening.startswith(opened)

    def fill(self, value: str, tagger: Tagger | None) -> str:
        """Return what stands in the place of `value`."""
        if tagger is None or len(self._parts) == 1:
            return self.untagged
        return tagger(value[:TAGGED_CHARS]).join(self._parts)
