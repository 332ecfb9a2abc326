"""The demo issuer is a real one: its tokens are verified by the keys that it publishes."""

from base64 import urlsafe_b64encode
from hashlib import sha256
from pathlib import Path
from typing import Any

import jwt
import pytest
from aiohttp.test_utils import TestClient
from aiohttp.web import Application, Request
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from pytest_aiohttp import AiohttpClient

from gateway.demo.issuer import ALGORITHM, DemoIssuer, build, parse_duration

URL = "http://127.0.0.1:9400/realms/demo"
NOW = 1_800_000_000.75


@pytest.fixture
def issuer(tmp_path: Path) -> DemoIssuer:
    return DemoIssuer.load(tmp_path / "keys" / "issuer.pem", URL)


@pytest.fixture
async def client(
    issuer: DemoIssuer, aiohttp_client: AiohttpClient
) -> TestClient[Request, Application]:
    return await aiohttp_client(build(issuer))


def mint(issuer: DemoIssuer, **fields: Any) -> str:
    asked: dict[str, Any] = {
        "user": "alice",
        "groups": ["engineers", "on-call"],
        "claims": {"email": "alice@example.org"},
        "ttl_s": 300,
        "audience": "countersign",
        "now": NOW,
    }
    return issuer.mint(**(asked | fields))


async def test_discovery_says_what_is_there(
    client: TestClient[Request, Application], issuer: DemoIssuer
) -> None:
    async with client.get("/realms/demo/.well-known/openid-configuration") as response:
        assert await response.json() == {
            "issuer": URL,
            "jwks_uri": f"{URL}/jwks",
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["ES256"],
            "claims_supported": ["iss", "sub", "aud", "iat", "nbf", "exp", "jti", "groups"],
        }


async def test_a_token_is_verified_by_the_published_key(
    client: TestClient[Request, Application], issuer: DemoIssuer
) -> None:
    async with client.get("/realms/demo/jwks") as response:
        published = await response.json()
    token = mint(issuer)
    key = jwt.PyJWKSet.from_dict(published)[jwt.get_unverified_header(token)["kid"]]
    claims = jwt.decode(
        token,
        key,
        algorithms=[ALGORITHM],
        audience="countersign",
        issuer=URL,
        options={"verify_exp": False, "verify_iat": False, "verify_nbf": False},
    )
    assert len(claims.pop("jti")) == 32
    assert claims == {
        "iss": URL,
        "sub": "alice",
        "aud": "countersign",
        "iat": 1_800_000_000,
        "nbf": 1_800_000_000,
        "exp": 1_800_000_300,
        "groups": ["engineers", "on-call"],
        "email": "alice@example.org",
    }


async def test_only_the_public_key_is_published(issuer: DemoIssuer) -> None:
    (published,) = issuer.jwks()["keys"]
    assert sorted(published) == ["alg", "crv", "kid", "kty", "use", "x", "y"]


def test_the_key_id_is_the_thumbprint_of_the_key(issuer: DemoIssuer) -> None:
    (published,) = issuer.jwks()["keys"]
    required = '{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}'.format(**published)
    thumbprint = urlsafe_b64encode(sha256(required.encode()).digest()).decode().rstrip("=")
    assert issuer.key_id == published["kid"] == thumbprint


def test_every_token_is_another(issuer: DemoIssuer) -> None:
    assert mint(issuer) != mint(issuer)


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        pytest.param({"user": ""}, "a user and a lifetime", id="no user"),
        pytest.param({"ttl_s": 0}, "a user and a lifetime", id="no lifetime"),
        pytest.param({"claims": {"sub": "bob", "aud": "x"}}, "itself: aud, sub", id="our claims"),
    ],
)
def test_a_token_that_makes_no_sense_is_not_minted(
    issuer: DemoIssuer, fields: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(ValueError, match=complaint):
        mint(issuer, **fields)


def test_the_key_is_made_once_and_for_its_owner_only(tmp_path: Path) -> None:
    file = tmp_path / "new" / "key.pem"
    first, second = DemoIssuer.load(file, URL), DemoIssuer.load(file, URL)
    assert first.key_id == second.key_id
    assert file.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in file.parent.iterdir()] == ["key.pem"]


def test_the_key_of_a_faster_process_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "key.pem"
    first = DemoIssuer.load(file, URL)
    monkeypatch.setattr(Path, "exists", lambda _path: False)
    assert DemoIssuer.load(file, URL).key_id == first.key_id
    assert [path.name for path in tmp_path.iterdir()] == ["key.pem"]


def test_a_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "key.pem"
    DemoIssuer.load(file, URL)
    file.chmod(0o640)
    with pytest.raises(ValueError, match="chmod 600"):
        DemoIssuer.load(file, URL)


@pytest.mark.parametrize(
    ("key", "complaint"),
    [
        pytest.param(rsa.generate_private_key(65537, 2048), "no elliptic curve key", id="RSA"),
        pytest.param(ec.generate_private_key(ec.SECP384R1()), "curve P-256", id="P-384"),
    ],
)
def test_another_kind_of_key_is_refused(
    tmp_path: Path, key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey, complaint: str
) -> None:
    file = tmp_path / "key.pem"
    file.touch(mode=0o600)
    file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    with pytest.raises(ValueError, match=complaint):
        DemoIssuer.load(file, URL)


@pytest.mark.parametrize(
    "url",
    ["https://idp.example.org", "http://10.0.0.1:9400", "ftp://127.0.0.1", "127.0.0.1:9400",
     "http://127.0.0.1:9400/?a=b", "http://127.0.0.1:9400/#a"],
)  # fmt: skip
def test_an_issuer_elsewhere_is_refused(tmp_path: Path, url: str) -> None:
    with pytest.raises(ValueError, match=r"loopback|an issuer is"):
        DemoIssuer.load(tmp_path / "key.pem", url)


@pytest.mark.parametrize(
    ("text", "seconds"), [("30s", 30), ("5m", 300), ("8h", 28_800), ("1d", 86_400)]
)
def test_a_duration_is_a_number_and_a_unit(text: str, seconds: int) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "5", "m", "0s", "-5m", "5 m", "5M", "1.5h", "٣m", "5m\n"])
def test_anything_else_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="a duration is a number and one of s, m, h, d"):
        parse_duration(text)
