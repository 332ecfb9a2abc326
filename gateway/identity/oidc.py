"""OIDC tokens: signature, issuer, audience and time, against each issuer's own keys."""

import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Literal

import jwt

from gateway.domain import Fact, Principal, Unauthenticated
from gateway.identity.jwks import KeySource

MAX_TOKEN_CHARS = 16 * 1024
"""Longer than any real token; refused before it is parsed."""
CACHED_TOKENS = 10_000
ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA")
"""Asymmetric only: an HMAC with a public key must never verify."""


class Issuer(Fact, frozen=True, kw_only=True):
    """A configured issuer and how its claims are read."""

    url: str
    audiences: tuple[str, ...]
    algorithms: tuple[str, ...] = ALGORITHMS
    groups_claim: str = "groups"
    person_claim: str = ""
    kind: Literal["user", "service"] = "user"
    kind_claim: str = ""
    claims: Mapping[str, str] = MappingProxyType({})
    """Claims that become facts: policy's name → claim in the token."""
    leeway_s: int = 30


class TokenIdentity:
    """Validates bearer tokens. Good ones are cached until they expire."""

    def __init__(
        self,
        issuers: Sequence[Issuer],
        keys: Mapping[str, KeySource],
        now_s: Callable[[], float] = time.time,
    ) -> None:
        self._issuers = {issuer.url: issuer for issuer in issuers}
        self._keys = keys
        self._now_s = now_s
        self._known: OrderedDict[bytes, Principal] = OrderedDict()

    async def identify(self, headers: Sequence[tuple[str, str]]) -> Principal:
        """Return who calls.

        Raises:
            Unauthenticated: no token or a bad one.
            Failure: the issuer's keys can't be had.
        """
        token = find_token(headers)
        digest = hashlib.sha256(token.encode()).digest()
        known = self._known.get(digest)
        if known is not None and known.token_expires_at > self._now_s():
            return known
        principal = await self._validate(token)
        self._known[digest] = principal
        if len(self._known) > CACHED_TOKENS:
            self._known.popitem(last=False)
        return principal

    async def _validate(self, token: str) -> Principal:
        issuer, header = self._peek(token)
        kid = header.get("kid")
        if not isinstance(kid, str):
            raise _bad("token.no_key_id", "it names no signing key")
        if header.get("alg") not in issuer.algorithms:
            raise _bad("token.algorithm", "its algorithm is not accepted")
        key = await self._keys[issuer.url].find(kid)
        if key is None:
            raise _bad("token.unknown_key", "its signing key is not one of its issuer's")
        return _read_principal(issuer, self._verify(token, key, issuer))

    def _peek(self, token: str) -> tuple[Issuer, dict[str, Any]]:
        """Read, without trust, which issuer and key the token claims."""
        try:
            header = jwt.get_unverified_header(token)
            claims = jwt.decode(token, options={"verify_signature": False})
        except (jwt.InvalidTokenError, ValueError, RecursionError) as e:
            raise _bad("token.malformed", "it is not a JSON web token") from e
        issuer = self._issuers.get(str(claims.get("iss")))
        if issuer is None:
            raise _bad("token.issuer", "its issuer is not one that this gateway trusts")
        return issuer, header

    def _verify(self, token: str, key: jwt.PyJWK, issuer: Issuer) -> dict[str, Any]:
        try:
            return jwt.decode(
                token,
                key,
                algorithms=list(issuer.algorithms),
                audience=list(issuer.audiences),
                issuer=issuer.url,
                leeway=issuer.leeway_s,
                options={"require": ["exp", "iat", "iss", "aud", "sub"]},
            )
        except jwt.ExpiredSignatureError as e:
            raise Unauthenticated(
                "token.expired", "Your token has expired; get a fresh one.", expired=True
            ) from e
        except (jwt.ImmatureSignatureError, jwt.InvalidIssuedAtError) as e:
            raise _bad("token.not_yet_valid", "it is not valid yet") from e
        except jwt.InvalidAudienceError as e:
            raise _bad("token.audience", "it is meant for another audience") from e
        except (jwt.InvalidTokenError, TypeError, ValueError) as e:
            raise _bad("token.invalid", "its signature or a required claim is not valid") from e


def find_token(headers: Sequence[tuple[str, str]]) -> str:
    """Return the caller's token from `authorization` or `x-api-key`; several must be equal."""
    tokens = set(_find_tokens(headers)) - {""}
    if not tokens:
        raise _bad("token.missing", "there is none; send `Authorization: Bearer TOKEN`")
    if len(tokens) > 1:
        raise _bad("token.ambiguous", "authorization and x-api-key hold different ones")
    token = tokens.pop()
    if not token.isascii():
        raise _bad("token.malformed", "it is not a JSON web token")
    if len(token) > MAX_TOKEN_CHARS:
        raise _bad("token.too_long", f"it is longer than {MAX_TOKEN_CHARS} characters")
    return token


def _find_tokens(headers: Sequence[tuple[str, str]]) -> Iterator[str]:
    for name, value in headers:
        if name == "authorization":
            scheme, _, token = value.strip().partition(" ")
            if scheme.lower() != "bearer":
                raise _bad("token.scheme", "authorization is not of the form `Bearer TOKEN`")
            yield token.strip()
        elif name == "x-api-key":
            yield value.strip()


def _read_principal(issuer: Issuer, claims: dict[str, Any]) -> Principal:
    sub = str(claims["sub"])
    groups = claims.get(issuer.groups_claim)
    person = claims.get(issuer.person_claim) if issuer.person_claim else f"{issuer.url}|{sub}"
    if isinstance(person, bool) or not isinstance(person, str | int) or not str(person).strip():
        raise _bad("token.no_person", f"it lacks the claim {issuer.person_claim}")
    kind = claims.get(issuer.kind_claim) if issuer.kind_claim else None
    return Principal(
        issuer=issuer.url,
        sub=sub,
        person=str(person),
        kind=kind if kind in {"user", "service"} else issuer.kind,
        groups=tuple(g for g in groups if isinstance(g, str)) if isinstance(groups, list) else (),
        claims={
            name: claims[claim]
            for name, claim in issuer.claims.items()
            if isinstance(claims.get(claim), str)
        },
        token_issued_at=int(claims["iat"]),
        token_expires_at=int(claims["exp"]),
    )


def _bad(code: str, why: str) -> Unauthenticated:
    return Unauthenticated(code, f"Your token was not accepted: {why}.")
