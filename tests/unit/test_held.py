"""What stays of a body while its call waits for approval."""

import pytest

from gateway.incoming import Incoming, hold

SENT = b'{"model":"m"}' + b" " * 5000


@pytest.mark.parametrize(
    "forwarded",
    [pytest.param(SENT, id="as it was sent"), pytest.param(b'{"model":"[masked]"}', id="masked")],
)
def test_both_what_was_sent_and_what_is_forwarded_come_back(forwarded: bytes) -> None:
    held = hold(Incoming(sent=SENT), forwarded)
    assert (held.sent(), held.forwarded()) == (SENT, forwarded)
    assert held.size < 200
