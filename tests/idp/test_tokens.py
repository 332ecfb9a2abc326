"""Tokens of a real identity provider: groups, services, audiences, its keys and its absence."""

from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import jwt
import pytest

from gateway.domain import Failure, Principal, Unauthenticated
from gateway.identity import jwks
from gateway.identity.claims import Issuer
from gateway.identity.jwks import MIN_INTERVAL_S, RETRY_S, KeySource
from gateway.identity.oidc import TokenIdentity
from idp.keycloak import PASSWORD, Keycloak

OUTAGE_S = 600


class World:
    """An identity that trusts Keycloak, with a clock for its keys."""

    def __init__(self, keycloak: Keycloak, session: aiohttp.ClientSession) -> None:
        self.clock = 0.0
        self.keys = KeySource(session, keycloak.issuer, outage_s=OUTAGE_S, clock=lambda: self.clock)
        issuer = Issuer(
            url=keycloak.issuer,
            audiences=("countersign", "another"),
            groups_claim="realm_access.roles",
            groups_map={"robots": "ci", "eng": "eng"},
            person_claim="email",
            kind_claim="kind",
            service_values=("robot",),
            claims={"repository": "build.repository"},
        )
        self.identity = TokenIdentity([issuer], {issuer.url: self.keys})

    async def identify(self, token: str) -> Principal:
        return await self.identity.identify([("authorization", f"Bearer {token}")])


@pytest.fixture
async def world(keycloak: Keycloak) -> AsyncIterator[World]:
    async with aiohttp.ClientSession() as session:
        yield World(keycloak, session)


def unverified(token: str) -> dict[str, Any]:
    return dict(jwt.decode(token, options={"verify_signature": False}))


def kid_of(token: str) -> str:
    return str(jwt.get_unverified_header(token)["kid"])


async def test_a_service_account_is_a_service_with_facts_of_its_token(
    keycloak: Keycloak, world: World
) -> None:
    token = keycloak.robot_token()
    claims = unverified(token)
    assert await world.identify(token) == Principal(
        issuer=keycloak.issuer,
        sub=claims["sub"],
        person="ci@acme.test",
        kind="service",
        groups=("ci",),
        claims={"repository": "acme/docs"},
        token_issued_at=claims["iat"],
        token_expires_at=claims["exp"],
    )


async def test_a_token_for_another_audience_is_refused(keycloak: Keycloak, world: World) -> None:
    token = keycloak.token("billing", grant_type="password", username="ada", password=PASSWORD)
    with pytest.raises(Unauthenticated) as refused:
        await world.identify(token)
    assert refused.value.code in {"token.audience", "token.invalid"}
    assert "countersign" not in unverified(token).get("aud", [])


async def test_after_a_rotation_the_new_key_is_fetched_and_the_old_one_still_holds(
    keycloak: Keycloak, world: World
) -> None:
    before = keycloak.robot_token()
    await world.identify(before)
    keycloak.rotate_keys()
    after = keycloak.robot_token()
    assert kid_of(after) != kid_of(before)
    world.clock += MIN_INTERVAL_S
    for token in (after, before):
        assert (await world.identify(token)).person == "ci@acme.test"


async def test_a_withdrawn_key_ends_its_tokens(keycloak: Keycloak, world: World) -> None:
    token = keycloak.robot_token()
    await world.identify(token)
    keycloak.rotate_keys()
    keycloak.withdraw_key(kid_of(token))
    world.clock += MIN_INTERVAL_S
    assert await world.keys.refresh()
    with pytest.raises(Unauthenticated) as refused:
        await world.identify(token)
    assert refused.value.code == "token.unknown_key"


async def test_an_identity_provider_that_hangs_is_done_without_for_a_while_and_no_longer(
    keycloak: Keycloak, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jwks, "FETCH_S", 0.5)
    seen, fresh = keycloak.robot_token(), keycloak.robot_token()
    await world.identify(seen)
    with keycloak.hung():
        world.clock += OUTAGE_S
        assert not await world.keys.refresh()
        for token in (seen, fresh):
            assert (await world.identify(token)).person == "ci@acme.test"
        world.clock += 1
        for token in (seen, fresh):
            with pytest.raises(Failure, match="identity provider"):
                await world.identify(token)
    monkeypatch.setattr(jwks, "FETCH_S", 10)
    world.clock += RETRY_S
    assert await world.keys.refresh()
    assert (await world.identify(seen)).person == "ci@acme.test"
