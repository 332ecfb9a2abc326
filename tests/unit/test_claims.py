"""Claims into a principal: nested ones, groups by list and by map, people, services, workloads."""

from typing import Any

import pytest

from gateway.domain import Principal, Unauthenticated
from gateway.identity.claims import Issuer, find_claim, read_principal

URL = "https://idp.test/realms/acme"
TOKEN: dict[str, Any] = {"iss": URL, "sub": "ada", "iat": 100, "exp": 200}


def issuer(**changes: Any) -> Issuer:
    return Issuer(url=URL, audiences=("cs",), **changes)


def principal(**changes: Any) -> Principal:
    plain: dict[str, Any] = {
        "issuer": URL,
        "sub": "ada",
        "person": f"{URL}|ada",
        "kind": "user",
        "token_issued_at": 100,
        "token_expires_at": 200,
    }
    return Principal(**plain | changes)


@pytest.mark.parametrize(
    ("path", "found"),
    [
        pytest.param("a", {"b": {"c.d": 1}, "e": None}, id="at the top"),
        pytest.param("a.b", {"c.d": 1}, id="inside an object"),
        pytest.param("a.b.c.d", 1, id="a name with a dot inside an object"),
        pytest.param("https://acme.test/roles", 2, id="a name that is a URL"),
        pytest.param("x.y", 3, id="the whole name before the path"),
        pytest.param("a.e.f", None, id="through what is no object"),
        pytest.param("z", None, id="nowhere"),
        pytest.param("", None, id="no name"),
    ],
)
def test_a_claim_is_found_by_a_dotted_path(path: str, found: Any) -> None:
    claims = {
        "a": {"b": {"c.d": 1}, "e": None},
        "https://acme.test/roles": 2,
        "x.y": 3,
        "x": {"y": 4},
    }
    assert find_claim(claims, path) == found


@pytest.mark.parametrize(
    ("settings", "claims", "groups"),
    [
        pytest.param({}, {"groups": ["eng", "shop", "eng"]}, ("eng", "shop"), id="a list"),
        pytest.param({}, {"groups": "eng"}, ("eng",), id="one name"),
        pytest.param({}, {}, (), id="none"),
        pytest.param(
            {"groups_claim": "realm_access.roles"},
            {"realm_access": {"roles": ["eng"]}, "groups": ["prod-writers"]},
            ("eng",),
            id="nested",
        ),
        pytest.param(
            {"groups_map": {"8f2a": "eng", "91bc": "shop"}},
            {"groups": ["91bc", "prod-writers", "8f2a"]},
            ("shop", "eng"),
            id="mapped, and nothing beside the map",
        ),
        pytest.param({"groups": ("ci",)}, {}, ("ci",), id="fixed"),
        pytest.param(
            {"groups": ("ci",), "groups_map": {"a": "ci"}},
            {"groups": ["a"]},
            ("ci",),
            id="fixed and mapped to the same",
        ),
    ],
)
def test_groups(settings: dict[str, Any], claims: dict[str, Any], groups: tuple[str, ...]) -> None:
    assert read_principal(issuer(**settings), TOKEN | claims) == principal(groups=groups)


@pytest.mark.parametrize(
    ("settings", "claims", "kind"),
    [
        pytest.param({}, {"kind": "service"}, "user", id="no claim is configured"),
        pytest.param({"kind": "service"}, {}, "service", id="by issuer"),
        pytest.param({"kind_claim": "kind"}, {"kind": "service"}, "service", id="by claim"),
        pytest.param(
            {"kind_claim": "idtyp", "service_values": ("app",)},
            {"idtyp": "app"},
            "service",
            id="app",
        ),
        pytest.param(
            {"kind_claim": "idtyp", "service_values": ("app",)}, {"idtyp": "new"}, "user", id="new"
        ),
        pytest.param(
            {"kind_claim": "kind", "kind": "service"}, {"kind": "user"}, "user", id="a person there"
        ),
        pytest.param({"kind_claim": "kind"}, {"kind": ["service"]}, "user", id="a list"),
    ],
)
def test_people_and_services(settings: dict[str, Any], claims: dict[str, Any], kind: Any) -> None:
    assert read_principal(issuer(**settings), TOKEN | claims) == principal(kind=kind)


def test_a_ci_job_is_a_principal_with_its_repository_as_a_fact_of_the_token() -> None:
    ci = issuer(
        kind="service",
        groups=("ci",),
        required_claims={"repository_owner": "acme"},
        claims={"repository": "repository", "workflow": "job_workflow_ref"},
    )
    sub = "repo:acme/shop:ref:refs/heads/main"
    claims = TOKEN | {
        "sub": sub,
        "repository": "acme/shop",
        "repository_owner": "acme",
        "job_workflow_ref": "acme/shop/.github/workflows/review.yml@refs/heads/main",
        "run_attempt": 1,
    }
    assert read_principal(ci, claims) == principal(
        sub=sub,
        person=f"{URL}|{sub}",
        kind="service",
        groups=("ci",),
        claims={
            "repository": "acme/shop",
            "workflow": "acme/shop/.github/workflows/review.yml@refs/heads/main",
        },
    )


@pytest.mark.parametrize(
    ("settings", "claims", "code"),
    [
        pytest.param(
            {"required_claims": {"repository_owner": "acme"}},
            {"repository_owner": "stranger"},
            "token.claims",
            id="of a stranger at a public issuer",
        ),
        pytest.param(
            {"required_claims": {"repository_owner": "acme"}}, {}, "token.claims", id="it lacks it"
        ),
        pytest.param(
            {"required_claims": {"repository_owner": "acme"}},
            {"repository_owner": ["acme"]},
            "token.claims",
            id="a list with it",
        ),
        pytest.param({}, {"sub": " "}, "token.invalid", id="an empty subject"),
        pytest.param({}, {"groups": ["eng", 5]}, "token.groups", id="a group that is a number"),
        pytest.param({}, {"groups": {"eng": True}}, "token.groups", id="groups as an object"),
        pytest.param(
            {"groups_claim": "realm_access.roles"},
            {"realm_access": {"roles": 7}},
            "token.groups",
            id="nested groups that are a number",
        ),
        pytest.param(
            {}, {"_claim_names": {"groups": "src1"}}, "token.groups", id="groups kept elsewhere"
        ),
        pytest.param({"person_claim": "email"}, {}, "token.no_person", id="no person"),
        pytest.param(
            {"person_claim": "email"}, {"email": ""}, "token.no_person", id="an empty one"
        ),
    ],
)
def test_a_token_that_does_not_say_enough_is_refused(
    settings: dict[str, Any], claims: dict[str, Any], code: str
) -> None:
    with pytest.raises(Unauthenticated) as refused:
        read_principal(issuer(**settings), TOKEN | claims)
    assert refused.value.code == code
