"""What a client is told before it has a token: where the gateway is and where people log in."""

from typing import Literal

from gateway.domain import Fact


class LoginOffer(Fact, frozen=True, kw_only=True):
    """How people log in."""

    issuer: str
    client_id: str
    scopes: tuple[str, ...] = ("openid",)
    token: Literal["access", "id"] = "access"  # noqa: S105 - a kind of token
    """Which of the issuer's two tokens the gateway takes."""
    redirect_port: int = 0
    """Loopback port to which the browser is sent back; 0: any."""


class Offer(Fact, frozen=True, kw_only=True):
    """What a client needs to know before it has a token."""

    proxy_url: str
    console_url: str
    login: LoginOffer | None
