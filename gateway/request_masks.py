"""Step 3: what of a request goes to the model, and what goes into the record."""

import hashlib
from typing import Literal

import msgspec

from gateway.conversations import Conversations, Digests
from gateway.domain import Failure, Refusal
from gateway.incoming import Incoming, read_prompt
from gateway.masking.bodies import Bodies, Way
from gateway.masking.checks import Blocked, Tally
from gateway.masking.rule_set import rule_set
from gateway.masking.rules import Rule
from gateway.masking.seals import Seals, Session
from gateway.masking.templates import Tagger, keyed_tagger
from gateway.messages.body import parse
from gateway.messages.facts import read_facts
from gateway.messages.pieces import Pieces, cut
from gateway.scans import Scans
from gateway.tables import Tables


def rules_of(tables: Tables, names: tuple[str, ...]) -> tuple[Rule, ...]:
    """Return the rules that a decision names.

    Raises:
        Failure: its tables lack one.
    """
    try:
        return tables.find_rules(names)
    except KeyError as e:
        raise Failure("masking_unavailable", f"The policy names a mask it lacks: {e}.") from e


class RequestMasks:
    """The memory of one worker, and the keys that all share."""

    def __init__(self, conversations: Conversations, scans: Scans, seals: Seals) -> None:
        self.seals = seals
        self._conversations = conversations
        self._scans = scans
        self._bodies = Bodies()

    def to_forward(
        self, incoming: Incoming, tables: Tables, names: tuple[str, ...], tally: Tally
    ) -> Incoming:
        """Return what arrived as it may reach the model, with facts read from those very bytes.

        It is the very same where nothing was masked.

        Raises:
            Refusal, Failure: it can't be masked.
        """
        pieces, digests = incoming.pieces, incoming.digests
        if not incoming.is_recordable:
            pieces = cut(incoming.body)
            digests = self._conversations.digest(pieces.all)
        masked = self._mask("request", incoming.session, tables, names, pieces, digests, tally)
        if masked is pieces:
            return incoming
        body = b"".join(masked.all)
        value = parse(body)
        prompt = read_prompt(value, masked, self._conversations.digest(masked.all))
        facts = read_facts(value, self._scans.hear(prompt))
        facts = msgspec.structs.replace(facts, session_id=incoming.facts.session_id)
        return msgspec.structs.replace(incoming, body=body, facts=facts)

    def to_record(
        self, incoming: Incoming, tables: Tables, names: tuple[str, ...], tally: Tally
    ) -> Pieces:
        """Return the pieces of what arrived as they may be recorded.

        Raises:
            Refusal, Failure: they can't be masked.
        """
        pieces, digests = incoming.pieces, incoming.digests
        return self._mask("record", incoming.session, tables, names, pieces, digests, tally)

    def _tagger(self, session: Session) -> Tagger | None:
        seals = self.seals.of(session)
        return keyed_tagger(seals.tag_key) if seals else None

    def _mask(
        self,
        place: Literal["request", "record"],
        session: Session,
        tables: Tables,
        names: tuple[str, ...],
        pieces: Pieces,
        digests: Digests,
        tally: Tally,
    ) -> Pieces:
        rules = rule_set(rules_of(tables, names))
        key = msgspec.msgpack.encode((place, tables.revision, sorted(names), session))
        way = Way(
            rules=rules,
            key=hashlib.blake2b(key, digest_size=16).digest(),
            tagger=self._tagger(session),
            place=place,
            keeps_thinking=place == "request",
        )
        try:
            masked = self._bodies.mask(way, pieces, digests)
        except Blocked as e:
            raise Refusal(
                "masking.blocked",
                f"The request can't be masked: the mask {e.rule} makes two fields of one name.",
            ) from e
        except Exception as e:
            raise Failure("masking_failed", "The request could not be masked.", status=500) from e
        for (rule, where), count in masked.counts.items():
            tally.note(where, rule, count)
        if not masked.counts:
            return pieces
        return msgspec.structs.replace(pieces, all=masked.pieces)
