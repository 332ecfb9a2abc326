"""The rule that the demo servers never leave the machine. Knows only addresses."""

import ipaddress


def require_loopback(host: str) -> str:
    """Return the host if it is a literal loopback address or `localhost`, else raise ValueError.

    Other names are refused without a look-up: what they resolve to can change.
    """
    if host == "localhost":
        return host
    try:
        address = ipaddress.ip_address(host.strip("[]"))
    except ValueError as error:
        raise ValueError(f"a demo server binds to a loopback address, not to {host!r}") from error
    if not address.is_loopback:
        raise ValueError(f"a demo server binds to a loopback address, not to {host}")
    return host
