"""Keys of an issuer: cached, rotated on an unknown id, never fetched too often."""

import asyncio
import json
from typing import Any

import aiohttp
import jwt
import jwt.api_jwt
import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm
from pytest_aiohttp import AiohttpServer

from gateway.domain import Failure, Principal, Unauthenticated
from gateway.identity.claims import Issuer
from gateway.identity.jwks import MAX_BYTES, MIN_INTERVAL_S, REFRESH_S, RETRY_S, KeySource
from gateway.identity.oidc import TokenIdentity, find_token

NOW = 1_800_000_000
OUTAGE_S = 900


class Idp:
    """An identity provider whose keys a test changes."""

    def __init__(self) -> None:
        self.keys: dict[str, ec.EllipticCurvePrivateKey] = {}
        self.fetches = 0
        self.is_up = True
        self.padding = 0
        self.url = ""
        self.add("k1")

    def add(self, kid: str) -> None:
        self.keys[kid] = ec.generate_private_key(ec.SECP256R1())

    def token(self, kid: str = "k1", **claims: Any) -> str:
        payload = {"iss": self.url, "sub": "ada", "aud": "cs", "iat": NOW, "exp": NOW + 600}
        payload["email"] = "ada@acme.test"
        return jwt.encode(payload | claims, self.keys[kid], algorithm="ES256", headers={"kid": kid})

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/.well-known/openid-configuration", self.discovery)
        app.router.add_get("/jwks", self.jwks)
        return app

    async def discovery(self, request: web.Request) -> web.Response:
        return web.json_response({"issuer": self.url, "jwks_uri": f"{self.url}/jwks"})

    async def jwks(self, request: web.Request) -> web.StreamResponse:
        self.fetches += 1
        if not self.is_up:
            raise web.HTTPServiceUnavailable
        keys = [
            json.loads(ECAlgorithm.to_jwk(key.public_key())) | {"kid": kid, "use": "sig"}
            for kid, key in self.keys.items()
        ]
        document = {"keys": [*keys, {"kid": "odd", "kty": "novel"}], "note": "x" * self.padding}
        answer = web.StreamResponse()
        answer.enable_chunked_encoding()
        await answer.prepare(request)
        await answer.write(json.dumps(document).encode())
        return answer


class Fixture:
    """An identity over an `Idp`, with a clock for keys and one for tokens."""

    def __init__(self, idp: Idp, session: aiohttp.ClientSession) -> None:
        self.idp = idp
        self.clock = 1000.0
        self.keys = KeySource(session, idp.url, outage_s=OUTAGE_S, clock=lambda: self.clock)
        issuer = Issuer(url=idp.url, audiences=("cs",), person_claim="email", groups_claim="roles")
        self.identity = TokenIdentity([issuer], {idp.url: self.keys}, now_s=lambda: NOW)

    async def identify(self, token: str) -> Principal:
        return await self.identity.identify([("authorization", f"Bearer {token}")])


@pytest.fixture
async def world(aiohttp_server: AiohttpServer, monkeypatch: pytest.MonkeyPatch) -> Any:
    idp = Idp()
    server = await aiohttp_server(idp.app())
    idp.url = str(server.make_url("")).rstrip("/")

    class Clock(jwt.api_jwt.datetime):  # type: ignore[misc, name-defined]  # the library reads the time itself
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return cls.fromtimestamp(NOW, tz)

    monkeypatch.setattr(jwt.api_jwt, "datetime", Clock)
    async with aiohttp.ClientSession() as session:
        yield Fixture(idp, session)


async def test_a_valid_token_becomes_a_principal(world: Fixture) -> None:
    token = world.idp.token(email="ada@acme.test", roles=["eng", "eng"], repository="x")
    assert await world.identify(token) == Principal(
        issuer=world.idp.url,
        sub="ada",
        person="ada@acme.test",
        kind="user",
        groups=("eng",),
        claims={},
        token_issued_at=NOW,
        token_expires_at=NOW + 600,
    )


async def test_a_token_seen_before_is_not_checked_again(world: Fixture) -> None:
    token = world.idp.token()
    first = await world.identify(token)
    world.idp.is_up = False
    world.clock += OUTAGE_S
    assert await world.identify(token) is first


async def test_a_token_seen_before_is_refused_once_its_key_is_withdrawn(world: Fixture) -> None:
    token = world.idp.token()
    await world.identify(token)
    world.idp.add("k2")
    del world.idp.keys["k1"]
    world.clock += MIN_INTERVAL_S
    assert (await world.identify(token)).sub == "ada"
    await world.keys.refresh()
    with pytest.raises(Unauthenticated, match="signing key"):
        await world.identify(token)


async def test_a_rotated_key_is_found_and_unknown_ids_do_not_hammer_the_issuer(
    world: Fixture,
) -> None:
    await world.identify(world.idp.token())
    world.idp.add("k2")
    with pytest.raises(Unauthenticated, match="signing key"):
        await world.identify(world.idp.token("k2"))
    assert world.idp.fetches == 1
    world.clock += MIN_INTERVAL_S
    assert (await world.identify(world.idp.token("k2"))).sub == "ada"
    assert world.idp.fetches == 2


async def test_known_keys_serve_an_outage_within_its_bound_and_then_nobody_is_identified(
    world: Fixture,
) -> None:
    seen = world.idp.token()
    await world.identify(seen)
    world.idp.is_up = False
    world.clock += OUTAGE_S
    assert not await world.keys.refresh()
    assert (await world.identify(world.idp.token(sub="bob"))).sub == "bob"
    world.clock += 1
    for token in (seen, world.idp.token(sub="eve")):
        with pytest.raises(Failure, match="identity provider"):
            await world.identify(token)
    world.idp.is_up = True
    world.clock += RETRY_S
    assert await world.keys.refresh()
    assert (await world.identify(world.idp.token(sub="eve"))).sub == "eve"


async def test_an_issuer_that_never_answered_identifies_nobody(world: Fixture) -> None:
    world.idp.is_up = False
    with pytest.raises(Failure, match="identity provider"):
        await world.identify(world.idp.token())


async def test_a_document_without_an_end_is_not_read(world: Fixture) -> None:
    world.idp.padding = MAX_BYTES
    assert not await world.keys.refresh()


async def test_keys_are_fetched_before_the_first_call(world: Fixture) -> None:
    assert REFRESH_S < OUTAGE_S
    async with world.identity.keeping():
        async with asyncio.timeout(5):
            while world.idp.fetches == 0:
                await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    ("claims", "code"),
    [
        pytest.param({"exp": NOW - 60}, "token.expired", id="expired"),
        pytest.param({"nbf": NOW + 60}, "token.not_yet_valid", id="not yet valid"),
        pytest.param({"iat": NOW + 60}, "token.not_yet_valid", id="issued in the future"),
        pytest.param({"aud": "other"}, "token.audience", id="another audience"),
        pytest.param({"iss": "https://other"}, "token.issuer", id="another issuer"),
        pytest.param({"sub": None}, "token.invalid", id="no subject"),
        pytest.param({"email": None}, "token.no_person", id="no person"),
        pytest.param({"email": ["ada"]}, "token.no_person", id="a person that is a list"),
    ],
)
async def test_a_bad_claim_is_refused(world: Fixture, claims: dict[str, Any], code: str) -> None:
    with pytest.raises(Unauthenticated) as refused:
        await world.identify(world.idp.token(**claims))
    assert (refused.value.code, refused.value.expired) == (code, code == "token.expired")


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        pytest.param({}, "token.missing", id="none"),
        pytest.param({"authorization": "Basic x"}, "token.scheme", id="another scheme"),
        pytest.param(
            {"authorization": "Bearer a", "x-api-key": "b"}, "token.ambiguous", id="two of them"
        ),
        pytest.param({"x-api-key": "a" * 20_000}, "token.too_long", id="too long"),
        pytest.param({"x-api-key": "caf\u00e9"}, "token.malformed", id="not ASCII"),
    ],
)
def test_a_credential_that_is_not_one_token_is_refused(headers: dict[str, str], code: str) -> None:
    with pytest.raises(Unauthenticated) as refused:
        find_token(list(headers.items()))
    assert refused.value.code == code


def test_the_same_token_in_both_headers_is_one_token() -> None:
    assert find_token([("Authorization", "bearer a"), ("x-api-key", "a")]) == "a"
