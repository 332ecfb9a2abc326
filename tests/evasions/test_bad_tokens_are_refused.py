"""Who can't prove who they are gets a 401 in one sentence, and is counted, never recorded."""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from support.deployment import Deployment

from evasions.calls import (
    MODEL,
    Reply,
    Told,
    encode,
    fetch_records,
    issuer,
    prompt,
    read_told,
    request,
    send,
    send_all,
    token_for,
)

AGENT = "token-evasion"


@dataclass(frozen=True, kw_only=True)
class Forge:
    """Makes tokens that are good but for what a case changes."""

    url: str
    key: ec.EllipticCurvePrivateKey
    key_id: str

    def claims(self, **changes: object) -> dict[str, object]:
        """Return the claims of a good token, with changes; None takes one away."""
        now = int(time.time())
        good = {"iss": self.url, "sub": "dev", "aud": "countersign", "groups": ["eng"]}
        good["person"] = "dev"
        times = {"iat": now, "nbf": now, "exp": now + 600}
        return {k: v for k, v in {**good, **times, **changes}.items() if v is not None}

    def sign(
        self, key: Any = None, algorithm: str = "ES256", kid: object = "", **changes: object
    ) -> str:
        """Return a token, signed by the demo issuer's own key unless told otherwise."""
        headers = {"kid": kid or self.key_id}
        return jwt.encode(self.claims(**changes), key or self.key, algorithm, headers)


def _bearer(token: str) -> list[str]:
    return [f"authorization: Bearer {token}"]


def _hmac_with_public_key(forge: Forge) -> str:
    pem = forge.key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    head, payload, _ = forge.sign().split(".")
    head = _encode({"alg": "HS256", "typ": "JWT", "kid": forge.key_id})
    signature = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256).sign(
        f"{head}.{payload}".encode(), pem
    )
    return f"{head}.{payload}.{jwt.utils.base64url_encode(signature).decode()}"


def _unsigned(forge: Forge, algorithm: str) -> str:
    payload = forge.sign().split(".")[1]
    return f"{_encode({'alg': algorithm, 'kid': forge.key_id})}.{payload}."


def _changed_payload(forge: Forge) -> str:
    head, _, signature = forge.sign().split(".")
    return f"{head}.{_encode(forge.claims(groups=['eng', 'research']))}.{signature}"


def _own_key_in_header(forge: Forge) -> str:
    key = ec.generate_private_key(ec.SECP256R1())
    jwk = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(key.public_key()))
    headers = {"kid": forge.key_id, "jwk": jwk, "jku": "http://127.0.0.1:1/jwks"}
    return jwt.encode(forge.claims(), key, "ES256", headers)


def _own_key(forge: Forge, **headers: object) -> str:
    return jwt.encode(forge.claims(), _other_key(), "ES256", {"kid": forge.key_id, **headers})


def _sign_parts(forge: Forge, head: bytes, payload: bytes) -> str:
    """Return a token of any header and payload, signed by the issuer's own key."""
    signed = b".".join(jwt.utils.base64url_encode(part) for part in (head, payload))
    algorithm = jwt.algorithms.ECAlgorithm(jwt.algorithms.ECAlgorithm.SHA256)
    signature = jwt.utils.base64url_encode(algorithm.sign(signed, forge.key))
    return f"{signed.decode()}.{signature.decode()}"


def _signed(forge: Forge, headers: dict[str, object]) -> str:
    head = {"alg": "ES256", "kid": forge.key_id, **headers}
    return _sign_parts(forge, json.dumps(head).encode(), json.dumps(forge.claims()).encode())


def _raw(forge: Forge, exp: str) -> str:
    """Return a signed token whose expiry is this very text."""
    head = json.dumps({"alg": "ES256", "kid": forge.key_id}).encode()
    payload = json.dumps(forge.claims(exp="EXP")).replace('"EXP"', exp)
    return _sign_parts(forge, head, payload.encode())


def _with_head(forge: Forge, head: str) -> str:
    text = head.replace("%s", forge.key_id)
    return _sign_parts(forge, text.encode(), json.dumps(forge.claims()).encode())


def _nested(forge: Forge) -> str:
    head = {"alg": "ES256", "kid": forge.key_id, "cty": "JWT"}
    return _sign_parts(forge, json.dumps(head).encode(), forge.sign().encode())


def _encode(value: object) -> str:
    return jwt.utils.base64url_encode(json.dumps(value).encode()).decode()


def _other_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


Headers = Callable[[Forge], list[str]]

CASES: Mapping[str, tuple[Headers, str]] = {
    "no token": (lambda _: [], "token.missing"),
    "an empty bearer token": (lambda _: ["authorization: Bearer "], "token.missing"),
    "an empty api key": (lambda _: ["x-api-key: "], "token.missing"),
    "garbage": (lambda _: _bearer("garbage"), "token.malformed"),
    "garbage of three parts": (lambda _: _bearer("a.b.c"), "token.malformed"),
    "an api key of Anthropic's form": (lambda _: ["x-api-key: sk-ant-1"], "token.malformed"),
    "bytes that are not ASCII": (lambda _: _bearer("\xff\xfe.\xe4.\xfc"), "token.malformed"),
    "scheme Basic": (lambda _: ["authorization: Basic ZGV2OmRldg=="], "token.scheme"),
    "a bare token without scheme": (lambda f: [f"authorization: {f.sign()}"], "token.scheme"),
    "not yet valid": (lambda f: _bearer(f.sign(nbf=int(time.time()) + 600)), "token.not_yet_valid"),
    "issued in the future": (
        lambda f: _bearer(f.sign(iat=int(time.time()) + 600)),
        "token.not_yet_valid",
    ),
    "another audience": (lambda f: _bearer(f.sign(aud="billing")), "token.audience"),
    "no audience": (lambda f: _bearer(f.sign(aud=None)), "token.invalid"),
    "another issuer": (lambda f: _bearer(f.sign(iss="http://127.0.0.1:1")), "token.issuer"),
    "the issuer with a slash more": (lambda f: _bearer(f.sign(iss=f.url + "/")), "token.issuer"),
    "no issuer": (lambda f: _bearer(f.sign(iss=None)), "token.issuer"),
    "an issuer that is a list": (lambda f: _bearer(_list_issuer(f)), "token.issuer"),
    "no expiry": (lambda f: _bearer(f.sign(exp=None)), "token.invalid"),
    "an expiry that is a word": (lambda f: _bearer(f.sign(exp="never")), "token.invalid"),
    "no subject": (lambda f: _bearer(f.sign(sub=None)), "token.invalid"),
    "an unknown key id": (lambda f: _bearer(f.sign(kid="other")), "token.unknown_key"),
    "no key id": (lambda f: _bearer(jwt.encode(f.claims(), f.key, "ES256")), "token.no_key_id"),
    "another key under the same id": (lambda f: _bearer(f.sign(_other_key())), "token.invalid"),
    "its own key in its header": (lambda f: _bearer(_own_key_in_header(f)), "token.invalid"),
    "a changed payload": (lambda f: _bearer(_changed_payload(f)), "token.invalid"),
    "algorithm none": (lambda f: _bearer(_unsigned(f, "none")), "token.algorithm"),
    "algorithm nOnE": (lambda f: _bearer(_unsigned(f, "nOnE")), "token.algorithm"),
    "algorithm ES256 without signature": (
        lambda f: _bearer(_unsigned(f, "ES256")),
        "token.invalid",
    ),
    "HMAC with the public key": (lambda f: _bearer(_hmac_with_public_key(f)), "token.algorithm"),
    "a token of 20 KB": (lambda f: _bearer(f.sign(note="x" * 15_000)), "token.too_long"),
    "an audience list without this gateway": (
        lambda f: _bearer(f.sign(aud=["billing", "COUNTERSIGN"])),
        "token.audience",
    ),
    "an audience that is an object": (
        lambda f: _bearer(f.sign(aud={"countersign": True})),
        "token.audience",
    ),
    "no time of issue": (lambda f: _bearer(f.sign(iat=None)), "token.invalid"),
    "an endless expiry": (lambda f: _bearer(_raw(f, exp="1e400")), "token.invalid"),
    "an expiry that is no JSON": (lambda f: _bearer(_raw(f, exp="Infinity")), "token.malformed"),
    "a subject that is empty": (lambda f: _bearer(f.sign(sub="")), "token.invalid"),
    "the issuer in capitals": (lambda f: _bearer(f.sign(iss=f.url.upper())), "token.issuer"),
    "a claim given twice": (
        lambda f: _bearer(_raw(f, exp='9999999999, "sub": "ada"')),
        "token.malformed",
    ),
    "an algorithm given twice": (
        lambda f: _bearer(_with_head(f, '{"alg":"none","alg":"ES256","kid":"%s"}')),
        "token.malformed",
    ),
    "a critical extension": (
        lambda f: _bearer(_signed(f, {"crit": ["exp"], "exp": 1})),
        "token.invalid",
    ),
    "a detached payload": (lambda f: _bearer(_signed(f, {"b64": False})), "token.invalid"),
    "a key id that is a path": (
        lambda f: _bearer(f.sign(kid="../../../../dev/null")),
        "token.unknown_key",
    ),
    "a key id that is SQL": (lambda f: _bearer(f.sign(kid="' OR 1=1 --")), "token.unknown_key"),
    "a key id that is a list": (
        lambda f: _bearer(_with_head(f, '{"alg":"ES256","kid":["%s"]}')),
        "token.no_key_id",
    ),
    "a key address in its header": (
        lambda f: _bearer(_own_key(f, x5u="http://127.0.0.1:1/c", x5c=["AAAA"])),
        "token.invalid",
    ),
    "a token inside a token": (lambda f: _bearer(_nested(f)), "token.malformed"),
    "five parts, as an encrypted one": (lambda f: _bearer("a.b.c.d.e"), "token.malformed"),
    "nested ten thousand deep": (lambda f: _bearer(_with_head(f, "[" * 7_000)), "token.malformed"),
    "two different ones": (
        lambda f: [*_bearer(f.sign()), f"x-api-key: {f.sign(sub='ada')}"],
        "token.ambiguous",
    ),
}
"""By name: the headers of a case, made by the forge, and the code that it is refused with."""


def _list_issuer(forge: Forge) -> str:
    head, payload = _encode({"alg": "ES256", "kid": forge.key_id}), _encode({"iss": [forge.url]})
    return f"{head}.{payload}.{'A' * 86}"


def _peer(name: str) -> str:
    return f"127.0.2.{1 + list(CASES).index(name)}"


@pytest.fixture(scope="module")
def forge(deployment: Deployment) -> Forge:
    demo = issuer(deployment)
    pem = (deployment.folder / "demo" / "issuer.pem").read_bytes()
    key = serialization.load_pem_private_key(pem, password=None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return Forge(url=demo.url, key=key, key_id=demo.key_id)


@pytest.fixture(scope="module")
def replies(deployment: Deployment, forge: Forge) -> dict[str, Reply]:
    """All calls, each from its own address."""
    body = encode(prompt())
    return send_all(
        {
            name: partial(
                send,
                deployment,
                request(body, *headers(forge), agent=f"{AGENT}/{name}"),
                source=_peer(name),
            )
            for name, (headers, _) in CASES.items()
        }
    )


@pytest.fixture(scope="module")
def events(deployment: Deployment, replies: dict[str, Reply]) -> dict[str, dict[str, Any]]:
    """What was counted, by the caller's address."""
    rows = deployment.wait_for(
        "select peer, kind, outcome, reason, sum(count)::int as count from events "
        "where peer like '127.0.2.%' group by all",
        len(replies),
    )
    return {row.pop("peer"): row for row in rows}


@pytest.mark.parametrize("name", CASES)
def test_a_bad_token_is_refused(name: str, replies: dict[str, Reply]) -> None:
    code = CASES[name][1]
    assert read_told(replies[name]) == Told(status=401, kind="authentication_error", code=code)


@pytest.mark.parametrize("name", CASES)
def test_a_bad_token_is_counted(name: str, events: dict[str, dict[str, Any]]) -> None:
    assert events[_peer(name)] == {
        "kind": "access.refused",
        "outcome": "deny",
        "reason": CASES[name][1],
        "count": 1,
    }


def test_a_bad_token_makes_no_exchange(
    deployment: Deployment, events: dict[str, dict[str, Any]]
) -> None:
    query = f"select path from exchanges where user_agent like '{AGENT}/%'"
    assert (len(events), deployment.sql(query)) == (len(CASES), [])


def test_a_token_that_is_only_expired_invites_to_try_with_a_fresh_one(
    deployment: Deployment, forge: Forge
) -> None:
    now = int(time.time())
    token = forge.sign(iat=now - 900, nbf=now - 900, exp=now - 300)
    reply = send(deployment, request(encode(prompt()), *_bearer(token)))
    assert read_told(reply) == Told(
        status=401,
        kind="authentication_error",
        code="token.expired",
        retry="with a fresh token",
    )


def test_a_token_of_100_kb_is_refused_before_it_is_read(deployment: Deployment) -> None:
    reply = send(deployment, request(encode(prompt()), *_bearer("x" * 100_000)))
    assert read_told(reply) == Told(status=400, kind="invalid_request_error", code="http.malformed")


@pytest.mark.parametrize("header", ["authorization: Bearer ", "x-api-key: "])
def test_two_different_tokens_in_one_repeated_header_are_refused(
    header: str, deployment: Deployment, forge: Forge
) -> None:
    tokens = [forge.sign(), forge.sign(sub="ada")]
    reply = send(deployment, request(encode(prompt()), *(header + token for token in tokens)))
    assert read_told(reply) == Told(status=401, kind="authentication_error", code="token.ambiguous")


def test_equal_tokens_in_both_headers_are_accepted(deployment: Deployment) -> None:
    token, agent = token_for(deployment), "equal-tokens/both"
    call = request(encode(prompt()), *_bearer(token), f"x-api-key: {token}", agent=agent)
    assert send(deployment, call).status == 200
    assert fetch_records(deployment, [agent], "subject", "request_model", "outcome") == {
        agent: {"subject": "dev", "request_model": MODEL, "outcome": "allow"}
    }
