"""The life of an approval request: every state and every way out of it, in one table; pure."""

from types import MappingProxyType
from typing import Final, Literal

from gateway.domain import Refusal

State = Literal["pending", "approved", "denied", "expired", "withdrawn", "used", "revoked"]
Act = Literal["approve", "deny", "expire", "withdraw", "use", "revoke"]

TRANSITIONS: Final = MappingProxyType[State, dict[Act, State]](
    {
        "pending": {
            "approve": "approved",
            "deny": "denied",
            "expire": "expired",
            "withdraw": "withdrawn",
        },
        "approved": {"use": "used", "expire": "expired", "revoke": "revoked"},
        "denied": {},
        "expired": {},
        "withdrawn": {},
        "used": {},
        "revoked": {},
    }
)
"""From a state, by an act, to the next. What is not here can't happen."""

EXPIRING: Final = tuple(state for state, ways in TRANSITIONS.items() if "expire" in ways)
"""The states that time ends."""
JOINED: Final = (*EXPIRING, "denied")
"""The states in which the same call sent again meets the request that is there."""


def state_at(state: State, expires_ns: int, now_ns: int) -> State:
    """Return what a stored state is at a time: an expiry holds before anybody wrote it down."""
    return "expired" if state in EXPIRING and expires_ns <= now_ns else state


def follow(state: State, act: Act) -> State:
    """Return the state after an act; raises `Refusal` (409) where the table has none."""
    following = TRANSITIONS[state].get(act)
    if following is None:
        raise Refusal("approval.state", f"It is {state}; it is too late to {act} it.", status=409)
    return following
