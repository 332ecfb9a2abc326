"""An issuer's signing keys: discovered, fetched without blocking, cached and rotated."""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any

import aiohttp
import jwt

from gateway.domain import Failure

REFRESH_S = 600.0
"""Keys older than this are fetched again, before they are used."""
STALE_LIMIT_S = 3600.0
"""How long cached keys serve while the issuer can't be reached."""
MIN_INTERVAL_S = 10.0
"""Between two fetches, however many unknown key ids arrive."""
MAX_BYTES = 1024 * 1024

_UNUSABLE = (
    aiohttp.ClientError,
    OSError,
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
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._session = session
        self._issuer = issuer
        self._jwks_url = jwks_url
        self._clock = clock
        self._keys: dict[str, jwt.PyJWK] = {}
        self._fetched_at = float("-inf")
        self._tried_at = float("-inf")
        self._lock = asyncio.Lock()

    async def find(self, kid: str) -> jwt.PyJWK | None:
        """Return the key with this id, None if the issuer has no such key.

        Raises:
            Failure: the issuer can't be reached and no fresh enough keys are at hand.
        """
        if kid not in self._keys or self._age_s() > REFRESH_S:
            await self._refresh()
        if self._age_s() > STALE_LIMIT_S:
            raise Failure("identity_unavailable", "The identity provider can't be reached now.")
        return self._keys.get(kid)

    def _age_s(self) -> float:
        return self._clock() - self._fetched_at

    async def _refresh(self) -> None:
        """Fetch the keys, but not more often than every `MIN_INTERVAL_S`."""
        async with self._lock:
            if self._clock() - self._tried_at < MIN_INTERVAL_S:
                return
            self._tried_at = self._clock()
            try:
                self._keys = _read_keys(await self._fetch())
                self._fetched_at = self._clock()
            except _UNUSABLE as e:
                _log.warning("jwks_fetch_failed issuer=%s error=%r", self._issuer, e)

    async def _fetch(self) -> Any:
        if not self._jwks_url:
            found = await self._get(f"{self._issuer.rstrip('/')}/.well-known/openid-configuration")
            if found.get("issuer") != self._issuer:
                raise ValueError("the discovery document is of another issuer")
            self._jwks_url = str(found["jwks_uri"])
        return await self._get(self._jwks_url)

    async def _get(self, url: str) -> Any:
        timeout = aiohttp.ClientTimeout(total=5)
        async with self._session.get(url, timeout=timeout, allow_redirects=False) as response:
            response.raise_for_status()
            if (response.content_length or 0) > MAX_BYTES:
                raise ValueError("the key document is too long")
            return await response.json(content_type=None)


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
