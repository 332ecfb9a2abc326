"""Whose address counts when proxies stand before the gateway."""

from ipaddress import ip_network

import pytest

from gateway.peers import peer_of

TRUSTED = (ip_network("10.0.0.0/8"), ip_network("fd00::/8"))


@pytest.mark.parametrize(
    ("peer", "forwarded_for", "expected"),
    [
        pytest.param("192.0.2.7", ["10.9.9.9"], "192.0.2.7", id="a stranger says what it likes"),
        pytest.param("10.0.0.1", [], "10.0.0.1", id="nothing forwarded"),
        pytest.param("10.0.0.1", ["192.0.2.7"], "192.0.2.7", id="one proxy"),
        pytest.param("10.0.0.1", ["192.0.2.7, 10.0.0.2"], "192.0.2.7", id="two proxies"),
        pytest.param("10.0.0.1", ["198.51.100.1", "192.0.2.7"], "192.0.2.7", id="two headers"),
        pytest.param("10.0.0.1", ["198.51.100.1, 192.0.2.7"], "192.0.2.7", id="a forged first"),
        pytest.param("10.0.0.1", ["192.0.2.7, unknown"], "10.0.0.1", id="no address"),
        pytest.param("10.0.0.1", ["10.0.0.3, 10.0.0.2"], "10.0.0.3", id="all are proxies"),
        pytest.param("fd00::1", ["2001:db8::7"], "2001:db8::7", id="version 6"),
        pytest.param("", ["192.0.2.7"], "", id="a unix socket"),
    ],
)
def test_the_nearest_address_that_is_no_trusted_proxy_counts(
    peer: str, forwarded_for: list[str], expected: str
) -> None:
    assert peer_of(peer, forwarded_for, TRUSTED) == expected


def test_without_trusted_proxies_the_socket_counts() -> None:
    assert peer_of("10.0.0.1", ["192.0.2.7"], ()) == "10.0.0.1"
