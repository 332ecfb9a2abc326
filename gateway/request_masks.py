"""Step 3: what of a request goes to the model, and what goes into the record."""

import hashlib
from collections import Counter
from collections.abc import Sequence

import msgspec

from gateway.conversations import Conversations
from gateway.domain import Failure, MaskingObligation, Refusal
from gateway.incoming import Incoming, read_prompt
from gateway.masking.bodies import Bodies, Masked, Way
from gateway.masking.checks import Blocked, Tally
from gateway.masking.rule_set import rule_set
from gateway.masking.rules import Rule
from gateway.masking.seals import Seals
from gateway.messages.body import parse
from gateway.messages.facts import read_facts
from gateway.messages.pieces import cut
from gateway.scans import Scans
from gateway.tables import Tables


def rules_of(tables: Tables, names: Sequence[str]) -> list[Rule]:
    """Return the rules that a decision names.

    Raises:
        Failure: its tables lack one.
    """
    try:
        return [tables.masks[name] for name in names]
    except KeyError as e:
        raise Failure("masking_unavailable", f"The policy names a mask it lacks: {e}.") from e


class RequestMasks:
    """The memory of one worker."""

    def __init__(self, conversations: Conversations, scans: Scans, seals: Seals) -> None:
        self.seals = seals
        self._conversations = conversations
        self._scans = scans
        self._bodies = Bodies()

    def to_forward(
        self, incoming: Incoming, tables: Tables, obligation: MaskingObligation, tally: Tally
    ) -> Incoming:
        """Return what arrived as it may reach the model, with facts read from those very bytes.

        It is the same object where nothing was masked.
        """
        pieces = cut(incoming.body)
        is_recorded = b"".join(pieces.all) == b"".join(incoming.pieces.all)
        digests = incoming.digests if is_recorded else self._conversations.digest(pieces.all)
        return incoming
