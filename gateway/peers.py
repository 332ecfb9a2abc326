"""Whose address a call comes from, when proxies that are trusted stand before the gateway; pure."""

from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network, ip_address

Networks = tuple[IPv4Network | IPv6Network, ...]


def peer_of(peer: str, forwarded_for: Iterable[str], trusted: Networks) -> str:
    """Return the caller's address: the nearest one that is no trusted proxy's.

    Each proxy appends the address it was called from to `x-forwarded-for`, so only what trusted
    ones wrote counts: it is read from its end, and no further than the first other address.

    Args:
        peer: The other end of the connection.
        forwarded_for: The values of the `x-forwarded-for` headers, in order.
        trusted: Networks of the proxies.
    """
    if not trusted or not _is_in(peer, trusted):
        return peer
    hops = [hop.strip() for value in forwarded_for for hop in value.split(",")]
    for hop in reversed(hops):
        try:
            address = str(ip_address(hop))
        except ValueError:
            return peer
        peer = address
        if not _is_in(peer, trusted):
            return peer
    return peer


def _is_in(peer: str, networks: Networks) -> bool:
    try:
        address = ip_address(peer)
    except ValueError:
        return False
    return any(address in network for network in networks)
