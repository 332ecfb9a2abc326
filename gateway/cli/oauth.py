"""OAuth 2.0 and OpenID Connect as a public client: code with PKCE, device code, refresh, revoke.

Everything is checked against the one issuer that was discovered. Nothing goes over plain HTTP
beyond this machine, and no redirect is followed with a code or a token in hand.
"""

import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from ipaddress import ip_address
from typing import Any, Final, TypeVar

import jwt
import msgspec
import requests
from authlib.common.errors import AuthlibBaseError
from authlib.common.security import generate_token
from authlib.integrations.requests_client import OAuth2Session
from authlib.oauth2.rfc7636 import create_s256_code_challenge as _challenge
from yarl import URL

from gateway.cli.callback import Callback
from gateway.cli.logins import Login
from gateway.cli.terminal import Complaint, visible
from gateway.console.offers import LoginOffer, Offer
from gateway.domain import NOT_JSON, Fact
from gateway.identity.claims import ALGORITHMS

HTTP_S: Final = 10.0
LOGIN_S: Final = 300.0
"""How long a person may take in the browser."""
DEVICE_GRANT: Final = "urn:ietf:params:oauth:grant-type:device_code"
_LARGEST: Final = 1024 * 1024

Tokens = Mapping[str, Any]
_T = TypeVar("_T")


class Provider(Fact, frozen=True, kw_only=True):
    """An issuer's endpoints, as it publishes them."""

    issuer: str
    authorization_endpoint: str = ""
    token_endpoint: str
    jwks_uri: str
    device_authorization_endpoint: str = ""
    revocation_endpoint: str = ""


def fetch_offer(console_url: str) -> Offer:
    """Return what a console offers to clients."""
    return _get(console_url.rstrip("/") + "/.well-known/countersign", Offer)


def discover(issuer: str) -> Provider:
    """Return the endpoints of an issuer."""
    found = _get(issuer.rstrip("/") + "/.well-known/openid-configuration", Provider)
    if found.issuer != issuer:
        raise Complaint(f"{visible(issuer)} answers for another issuer, {visible(found.issuer)}")
    for url in msgspec.structs.astuple(found):
        if url:
            _require_private(url)
    return found


def log_in_by_browser(provider: Provider, offer: LoginOffer, show: Callable[[str], None]) -> Tokens:
    """Return the tokens of who logs in at the address that `show` is given."""
    state, nonce, verifier = (generate_token(48) for _ in range(3))
    try:
        callback = Callback(offer.redirect_port, state)
    except OSError as e:
        raise Complaint(f"can't listen on port {offer.redirect_port}: {e.strerror}") from e
    with callback, _session(offer.client_id) as session:
        session.scope, session.redirect_uri = " ".join(offer.scopes), callback.url
        session.code_challenge_method = "S256"
        url, _ = session.create_authorization_url(
            provider.authorization_endpoint, state=state, code_verifier=verifier, nonce=nonce
        )
        show(url)
        try:
            answer = callback.wait(LOGIN_S)
        except TimeoutError as e:
            raise Complaint(f"nobody logged in within {LOGIN_S:.0f} s") from e
        query = URL(answer).query
        if query.get("iss", provider.issuer) != provider.issuer:
            raise Complaint("another identity provider answered than the one that was asked")
        if error := query.get("error"):
            said = f"{error} {query.get('error_description', '')}".strip()
            raise Complaint(visible(f"the login was refused: {said}"))
        tokens: Tokens = session.fetch_token(
            provider.token_endpoint,
            authorization_response=answer,
            state=state,
            code_verifier=verifier,
        )
    _check_id_token(provider, offer.client_id, tokens, nonce)
    return tokens


def log_in_by_device(
    provider: Provider, offer: LoginOffer, show: Callable[[str, str], None]
) -> Tokens:
    """Return the tokens of who enters the code that `show` is given, on any device."""
    if not provider.device_authorization_endpoint:
        raise Complaint("the identity provider offers no device code; log in without --device")
    verifier = generate_token(48)
    with _session(offer.client_id) as session:
        asked = session.request(
            "POST",
            provider.device_authorization_endpoint,
            data={
                "client_id": offer.client_id,
                "scope": " ".join(offer.scopes),
                "code_challenge": _challenge(verifier),  # type: ignore[no-untyped-call]  # so in its stubs
                "code_challenge_method": "S256",
            },
            withhold_token=True,
        )
        told = _read(asked, _DeviceCode)
        show(told.verification_uri_complete or told.verification_uri, told.user_code)
        tokens = _poll(session, provider, told, verifier)
    _check_id_token(provider, offer.client_id, tokens, "")
    return tokens


def refresh(login: Login) -> Login:
    """Return a login with a fresh token.

    Raises:
        Complaint: the issuer gives none, or can't be reached.
    """
    if not login.refresh_token:
        raise Complaint("the login has expired; run countersign login")
    with _session(login.client_id) as session:
        tokens = session.refresh_token(login.token_endpoint, refresh_token=login.refresh_token)
    return renewed(login, tokens)


def renewed(login: Login, tokens: Tokens) -> Login:
    """Return a login with the tokens that were just given."""
    token = tokens.get("id_token" if login.kind == "id" else "access_token")
    if not isinstance(token, str) or not token:
        raise Complaint(f"the identity provider gave no {login.kind} token")
    return msgspec.structs.replace(
        login,
        token=token,
        expires_at=_expiry(token),
        refresh_token=str(tokens.get("refresh_token") or ""),
    )


def revoke(login: Login) -> None:
    """End the login at the issuer, if it offers that."""
    if login.refresh_token and login.revocation_endpoint:
        with _session(login.client_id) as session:
            answer = session.revoke_token(  # type: ignore[no-untyped-call]  # so in its stubs
                login.revocation_endpoint,
                token=login.refresh_token,
                token_type_hint="refresh_token",  # noqa: S106 - a kind, no secret
            )
            answer.raise_for_status()


class _DeviceCode(Fact, frozen=True, kw_only=True):
    device_code: str
    user_code: str
    verification_uri: str
    verification_uri_complete: str = ""
    expires_in: int
    interval: int = 5


def _poll(session: OAuth2Session, provider: Provider, told: _DeviceCode, verifier: str) -> Tokens:
    interval_s, until = max(1, told.interval), time.monotonic() + min(told.expires_in, LOGIN_S)
    while time.monotonic() < until:
        time.sleep(interval_s)
        try:
            tokens: Tokens = session.fetch_token(
                provider.token_endpoint,
                grant_type=DEVICE_GRANT,
                device_code=told.device_code,
                code_verifier=verifier,
            )
        except AuthlibBaseError as e:
            if e.error not in {"authorization_pending", "slow_down"}:
                raise
            interval_s += 5 if e.error == "slow_down" else 0
        else:
            return tokens
    raise Complaint("nobody entered the code in time")


@contextmanager
def _session(client_id: str) -> Iterator[OAuth2Session]:
    """Give a client of an issuer; what goes wrong with it is said in one line."""
    session = OAuth2Session(
        client_id,
        token_endpoint_auth_method="none",  # noqa: S106 - no password: a public client
        default_timeout=HTTP_S,
    )
    session.revocation_endpoint_auth_method = "none"
    session.verify = _authorities()
    session.max_redirects = 0
    try:
        with session:
            yield session
    except AuthlibBaseError as e:
        said = f"{e.error} {e.description or ''}".strip()
        raise Complaint(visible(f"the identity provider refused: {said}")) from e
    except (requests.RequestException, ValueError) as e:
        raise Complaint(visible(f"the identity provider can't be asked: {e}")) from e


def _get(url: str, kind: type[_T]) -> _T:
    _require_private(url)
    try:
        answer = requests.get(url, timeout=HTTP_S, verify=_authorities(), allow_redirects=False)
    except requests.RequestException as e:
        raise Complaint(visible(f"{url} can't be reached: {e}")) from e
    return _read(answer, kind)


def _read(answer: requests.Response, kind: type[_T]) -> _T:
    try:
        if answer.status_code != 200 or len(answer.content) > _LARGEST:
            raise Complaint(
                visible(f"{answer.url} answered {answer.status_code}: {answer.text[:300]}")
            )
        return msgspec.json.decode(answer.content, type=kind)
    except NOT_JSON as e:
        raise Complaint(visible(f"{answer.url} gave an answer that can't be read: {e}")) from e


def _check_id_token(provider: Provider, client_id: str, tokens: Tokens, nonce: str) -> None:
    """Check that the ID token is the issuer's answer to this very login.

    Raises:
        Complaint: it is missing, or not.
    """
    try:
        token = str(tokens["id_token"])
        keys = jwt.PyJWKSet.from_dict(_get(provider.jwks_uri, dict))
        claims = jwt.decode(
            token,
            keys[jwt.get_unverified_header(token)["kid"]],
            algorithms=list(ALGORITHMS),
            audience=client_id,
            issuer=provider.issuer,
            leeway=HTTP_S,
            options={"require": ["exp", "iat", "sub"]},
        )
    except (jwt.PyJWTError, LookupError, TypeError, ValueError) as e:
        raise Complaint("the identity provider gave no ID token that holds") from e
    if nonce and claims.get("nonce") != nonce:
        raise Complaint("the identity provider answered another login than this one")


def _expiry(token: str) -> float:
    """Return when a token expires, as it says itself: what the gateway judges by."""
    try:
        return float(jwt.decode(token, options={"verify_signature": False})["exp"])
    except (jwt.PyJWTError, LookupError, TypeError, ValueError) as e:
        raise Complaint(
            "the identity provider's access tokens are no JSON web tokens; the operator may set "
            "login.token to id"
        ) from e


def _authorities() -> str | bool:
    """Return whom to trust: this machine's authorities, `SSL_CERT_FILE` before them."""
    return ssl.get_default_verify_paths().cafile or True


def _require_private(url: str) -> None:
    found = URL(url)
    if found.scheme == "https":
        return
    try:
        is_here = found.host == "localhost" or ip_address(found.host or "").is_loopback
    except ValueError:
        is_here = False
    if found.scheme != "http" or not is_here:
        raise Complaint(f"{visible(url)} is not https, so others could read along")
