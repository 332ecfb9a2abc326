"""An issuer's signing keys: discovered, kept fresh beside the calls, and served through an outage.

Each process fetches the keys every `REFRESH_S` and whenever a token names a key it does not know.
What the issuer no longer publishes is forgotten with the next fetch. While the issuer can't be
reached the known keys serve for `outage_s`; after that nobody is identified.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any

import aiohttp
import jwt
import msgspec

from gateway.domain import NOT_JSON, Failure

REFRESH_S = 300.0
"""Between two fetches while all is well; how long a key that was withdrawn may still serve."""
MIN_INTERVAL_S = 10.0
"""From a fetch to the next, however many unknown key ids arrive."""
RETRY_S = 1.0
"""From a fetch that failed to the next."""
FETCH_S = 5.0
MAX_BYTES = 1024 * 1024

_UNUSABLE = (
    aiohttp.ClientError,
    OSError,
    *NOT_JSON,
    AttributeError,
    LookupError,
    TypeError,
    ValueError,
)
"""What fetching and reading keys raises, whatever the issuer answers."""

_log = logging.getLogger(__name__)


class KeySource:
    """The keys of one issuer."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        issuer: str,
        jwks_url: str = "",
        outage_s: float = 3600,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._session = session
        self._issuer = issuer
        self._jwks_url = jwks_url
        self._outage_s = outage_s
        self._clock = clock
        self._keys: dict[str, jwt.PyJWK] = {}
        self._fetched_at = float("-inf")
        self._answered = False
        self._next_at = float("-inf")
        self._lock = asyncio.Lock()

    async def keep_fresh(self) -> None:
        """Fetch the keys again and again, so that no call waits for a slow issuer."""
        while True:
            is_well = await self.refresh()
            await asyncio.sleep(REFRESH_S if is_well else RETRY_S)

    async def find(self, kid: str) -> jwt.PyJWK | None:
        """Return the key with this id, None if the issuer has no such key.

        Raises:
            Failure: the issuer can't be reached and no fresh enough keys are at hand.
        """
        if kid not in self._keys:
            await self.refresh()
        return self.known(kid)

    def known(self, kid: str) -> jwt.PyJWK | None:
        """Return the key with this id among those at hand.

        Raises:
            Failure: they are older than an outage may last.
        """
        if self._clock() - self._fetched_at > self._outage_s:
            raise Failure("identity_unavailable", "The identity provider can't be reached now.")
        return self._keys.get(kid)

    async def refresh(self) -> bool:
        """Fetch the keys unless that was just done; return whether the issuer answered last."""
        async with self._lock:
            now = self._clock()
            if now < self._next_at:
                return self._answered
            try:
                self._keys = _read_keys(await self._fetch())
                self._fetched_at, self._answered = now, True
            except _UNUSABLE as e:
                self._answered = False
                _log.warning("jwks_fetch_failed issuer=%s error=%r", self._issuer, e)
            self._next_at = self._clock() + (MIN_INTERVAL_S if self._answered else RETRY_S)
            return self._answered

    async def _fetch(self) -> Any:
        if not self._jwks_url:
            found = await self._get(f"{self._issuer.rstrip('/')}/.well-known/openid-configuration")
            if found.get("issuer") != self._issuer:
                raise ValueError("the discovery document is of another issuer")
            self._jwks_url = str(found["jwks_uri"])
        return await self._get(self._jwks_url)

    async def _get(self, url: str) -> Any:
        timeout = aiohttp.ClientTimeout(total=FETCH_S)
        async with self._session.get(url, timeout=timeout, allow_redirects=False) as response:
            if response.status != 200:
                raise ValueError(f"status {response.status}")
            body = bytearray()
            async for part in response.content.iter_any():
                body += part
                if len(body) > MAX_BYTES:
                    raise ValueError("the document is too long")
            return msgspec.json.decode(body)


def _read_keys(document: Any) -> dict[str, jwt.PyJWK]:
    """Return the usable signing keys by id; keys of unknown kinds are left out."""
    keys = {}
    for item in document["keys"]:
        if not isinstance(item.get("kid"), str) or item.get("use", "sig") != "sig":
            continue
        try:
            keys[item["kid"]] = jwt.PyJWK(item)
        except jwt.PyJWTError:
            _log.info("jwks_key_skipped kid=%s", item["kid"])
    return keys
