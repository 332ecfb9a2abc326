"""Seals: how a masked thinking block remembers what it was, without anyone else learning it.

A signed block can't be changed, so its `signature` becomes a token that holds the original text
and signature: AES-256-GCM under a key of the caller's session, derived from a key that all
replicas share. Opened again when the block comes back. Also derives the key of the session's tags.
"""

import hashlib
import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

MARK: Final = "countersign.1."
"""How a token begins."""
LEAST_KEY_CHARS: Final = 32
"""Of a shared key; 43 characters of base64 are 256 bits."""

_NONCE_BYTES = 12
_KEY_ID_BYTES = 6

_decode_thought = msgspec.msgpack.Decoder(tuple[str, str]).decode


class Session(NamedTuple):
    """What a seal is bound to: tokens of one are worth nothing in another."""

    issuer: str
    sub: str
    session: str
    """As the client names it; empty where it does not."""


class Thought(NamedTuple):
    """A thinking block as the Claude server wrote it."""

    thinking: str
    signature: str


class BadSeal(Exception):
    """A token that is not one of this session's."""


class Seals:
    """The shared keys: the first one seals, all of them open."""

    def __init__(self, keys: Sequence[str], random_bytes: Callable[[int], bytes]) -> None:
        self._keys = {_derive(key.encode(), b"id")[:_KEY_ID_BYTES].hex(): key for key in keys}
        self._random_bytes = random_bytes

    def of(self, session: Session) -> "SessionSeals | None":
        """Return the seals of a session; None where no key is configured."""
        return SessionSeals(self._keys, session, self._random_bytes) if self._keys else None


class SessionSeals:
    """Seals and opens for one session; its keys are derived when they are needed."""

    def __init__(
        self, keys: dict[str, str], session: Session, random_bytes: Callable[[int], bytes]
    ) -> None:
        self._keys = keys
        self._bound = msgspec.msgpack.encode(session)
        self._random_bytes = random_bytes

    def seal(self, thought: Thought) -> str:
        """Return a token that holds a thinking block."""
        key_id = next(iter(self._keys))
        nonce = self._random_bytes(_NONCE_BYTES)
        sealed = self._cipher(key_id).encrypt(nonce, msgspec.msgpack.encode(thought), self._bound)
        return f"{MARK}{key_id}.{urlsafe_b64encode(nonce + sealed).decode()}"

    def open(self, token: str) -> Thought:
        """Return the thinking block in a token.

        Raises:
            BadSeal: it was made for another session, with a key that is gone, or by someone else.
        """
        key_id, _, text = token.removeprefix(MARK).partition(".")
        if key_id not in self._keys:
            raise BadSeal
        try:
            sealed = urlsafe_b64decode(text.encode())
            nonce, rest = sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:]
            opened = self._cipher(key_id).decrypt(nonce, rest, self._bound)
            return Thought(*_decode_thought(opened))
        except (InvalidTag, ValueError, msgspec.MsgspecError) as e:
            raise BadSeal from e

    def tag_key(self) -> bytes:
        """Return the key under which values of this session are tagged."""
        return self._derive(next(iter(self._keys)), b"tags")

    def _cipher(self, key_id: str) -> AESGCM:
        return AESGCM(self._derive(key_id, b"thinking"))

    def _derive(self, key_id: str, purpose: bytes) -> bytes:
        return _derive(self._keys[key_id].encode(), purpose, self._bound)


def _derive(key: bytes, *purpose: bytes) -> bytes:
    return hmac.digest(key, msgspec.msgpack.encode(purpose), hashlib.sha256)
