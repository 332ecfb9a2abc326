"""Claims of a validated token into a principal: nested claims, groups, person, kind; pure."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal

from gateway.domain import Fact, Principal, Unauthenticated

ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA")
"""Asymmetric only: an HMAC with a public key must never verify."""


class Issuer(Fact, frozen=True, kw_only=True):
    """A configured issuer and how its claims are read."""

    url: str
    audiences: tuple[str, ...]
    algorithms: tuple[str, ...] = ALGORITHMS
    required_claims: Mapping[str, str] = MappingProxyType({})
    """What a token must say, exactly; for issuers that give tokens to strangers too."""
    groups_claim: str = "groups"
    groups_map: Mapping[str, str] = MappingProxyType({})
    """The claim's values → policy's groups; if there are any, other values mean nothing."""
    groups: tuple[str, ...] = ()
    """Groups of each of its principals, for workloads whose tokens name none."""
    person_claim: str = ""
    kind: Literal["user", "service"] = "user"
    kind_claim: str = ""
    service_values: tuple[str, ...] = ("service",)
    """Values of `kind_claim` that mean a service; `user` means a person, others the default."""
    claims: Mapping[str, str] = MappingProxyType({})
    """Claims that become facts: policy's name → claim in the token."""
    leeway_s: int = 30


def read_principal(issuer: Issuer, claims: dict[str, Any]) -> Principal:
    """Return who a validated token speaks of.

    Raises:
        Unauthenticated: a claim that is needed is missing or can't be read.
    """
    for name, value in issuer.required_claims.items():
        if find_claim(claims, name) != value:
            raise bad_token("token.claims", f"its claim {name} is not what this gateway requires")
    sub = claims["sub"]
    if not sub.strip():
        raise bad_token("token.invalid", "it names no subject")
    facts = {name: find_claim(claims, path) for name, path in issuer.claims.items()}
    return Principal(
        issuer=issuer.url,
        sub=sub,
        person=_read_person(issuer, claims),
        kind=_read_kind(issuer, claims),
        groups=_read_groups(issuer, claims),
        claims={name: value for name, value in facts.items() if isinstance(value, str)},
        token_issued_at=int(claims["iat"]),
        token_expires_at=int(claims["exp"]),
    )


def find_claim(claims: Mapping[str, Any], path: str) -> Any:
    """Return the claim at a dotted path such as `realm_access.roles`, None if there is none.

    A name may hold dots itself (`https://acme.test/roles`): the whole name is looked for first.
    """
    if path in claims:
        return claims[path]
    for dot in (place for place, letter in enumerate(path) if letter == "."):
        inner = claims.get(path[:dot])
        if isinstance(inner, dict) and (found := find_claim(inner, path[dot + 1 :])) is not None:
            return found
    return None


def bad_token(code: str, why: str) -> Unauthenticated:
    """Return the refusal of a token."""
    return Unauthenticated(code, f"Your token was not accepted: {why}.")


def _read_person(issuer: Issuer, claims: dict[str, Any]) -> str:
    if not issuer.person_claim:
        return f"{issuer.url}|{claims['sub']}"
    person = find_claim(claims, issuer.person_claim)
    if isinstance(person, bool) or not isinstance(person, str | int) or not str(person).strip():
        raise bad_token("token.no_person", f"it lacks the claim {issuer.person_claim}")
    return str(person)


def _read_kind(issuer: Issuer, claims: dict[str, Any]) -> Literal["user", "service"]:
    kind = find_claim(claims, issuer.kind_claim) if issuer.kind_claim else None
    if kind in issuer.service_values:
        return "service"
    return "user" if kind == "user" else issuer.kind


def _read_groups(issuer: Issuer, claims: dict[str, Any]) -> tuple[str, ...]:
    """Return the groups, each once; no claim means none, one that can't be read is refused.

    Groups also tighten, so to overlook some would loosen. Entra ID leaves the claim out when there
    are too many groups, and says in `_claim_names` where they are.
    """
    names = find_claim(claims, issuer.groups_claim)
    elsewhere = claims.get("_claim_names")
    if names is None and isinstance(elsewhere, dict) and issuer.groups_claim in elsewhere:
        raise bad_token("token.groups", "it has too many groups to name them; use app roles")
    found = [names] if isinstance(names, str) else names if names is not None else []
    if not isinstance(found, list) or not all(isinstance(name, str) for name in found):
        raise bad_token("token.groups", f"its claim {issuer.groups_claim} is not a list of names")
    if issuer.groups_map:
        found = [issuer.groups_map[name] for name in found if name in issuer.groups_map]
    return tuple(dict.fromkeys([*found, *issuer.groups]))
