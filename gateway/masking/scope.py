"""How hits are treated in one answer: replaced and counted, passed as echoes, or the end of it."""

from typing import Any

import msgspec

from gateway.masking.checks import Blocked, Tally, as_json_text, is_opaque, unescape
from gateway.masking.echo import Echo
from gateway.masking.leaf import Decide, Match, mask_string
from gateway.masking.rule_set import RuleSet
from gateway.masking.seals import SessionSeals, Thought
from gateway.masking.templates import keyed_tagger
from gateway.masking.text import TextMasker

TOOL_INPUT = "tool_input"


class Scope:
    """The rules of one answer, and what a hit means in each place of it."""

    def __init__(
        self, rules: RuleSet, tally: Tally, echo: Echo, seals: SessionSeals | None
    ) -> None:
        """Begin; without `seals` there are no tags, and masked thinking can't be signed."""
        self.rules = rules
        self.tally = tally
        self._echo = echo
        self._seals = seals
        self._tagger = keyed_tagger(seals.tag_key) if seals else None
        self._last_rule = ""
        """That matched."""

    # --- what a hit becomes -----------------------------------------------------------------------

    def deciding(self, where: str) -> Decide:
        """Return what decides about hits in a place."""
        if where == TOOL_INPUT:
            return self._decide_input

        def replace(match: Match) -> str:
            self.note(where, match.rule)
            return match.replaced(self._tagger)

        return replace

    def _decide_input(self, match: Match) -> str | None:
        """Decide about a value in a tool's input: on the way to a disk, perhaps its own."""
        rule = self._echo.rule
        if not self._echo.holds(match.value):
            self.tally.note(TOOL_INPUT, match.rule)
            return match.replaced(self._tagger)
        where = f"{TOOL_INPUT}.echo_{rule}"
        self.tally.note(where, match.rule)
        if rule == "refuse":
            raise Blocked(match.rule, where)
        return None if rule == "allow" else match.replaced(self._tagger)

    def note(self, where: str, rule: str) -> None:
        """Count a hit."""
        self._last_rule = rule
        self.tally.note(where, rule)

    def block(self, rule: str, where: str) -> Blocked:
        """Return what ends the answer, counted."""
        self.tally.note(where, rule)
        return Blocked(rule, where)

    # --- texts ------------------------------------------------------------------------------------

    def masker(self) -> TextMasker:
        """Return a masker of a text that arrives in pieces."""
        return TextMasker(self.rules, self._tagger)

    def take_counts(self, where: str, masker: TextMasker) -> None:
        """Count the hits of a masker."""
        self._last_rule = next(iter(masker.counts), self._last_rule)
        self.tally.add(where, masker.counts)

    def mask_text(self, text: str, where: str) -> str:
        """Return a whole text masked."""
        return mask_string(self.rules, self.deciding(where), text)

    def check_text(self, text: str, where: str) -> None:
        """Check a text in which nothing can be replaced.

        Raises:
            Blocked: a rule matches.
        """

        def refuse(match: Match) -> str:
            raise self.block(match.rule, where)

        mask_string(self.rules, refuse, text)

    def check_escaped(self, text: str, where: str) -> None:
        """Check a text that is no JSON, also as a lenient reader of JSON may read it."""
        self.check_text(text, where)
        self.check_text(unescape(text), where)

    # --- structures -------------------------------------------------------------------------------

    def mask_leaves(self, root: Any, where: str) -> bool:
        """Mask the strings of a structure in place; say whether one was changed.

        Raises:
            Blocked: a rule matches the name of a field, or the caller's own value that is refused.
        """
        if not self.rules.may_match(as_json_text(root)):
            return False
        is_input = where == TOOL_INPUT
        decide = self.deciding(where)
        changed = False
        stack: list[tuple[Any, str | None]] = [(root, None)]
        while stack:
            holder, inherited = stack.pop()
            items = enumerate(holder) if isinstance(holder, list) else holder.items()
            for key, value in list(items):
                name = inherited
                if isinstance(key, str):
                    self.check_text(key, where)
                    name = key
                if isinstance(value, dict):
                    stack.append((value, None))
                elif isinstance(value, list):
                    stack.append((value, name))
                elif is_input or not (isinstance(key, str) and is_opaque(holder, key)):
                    holder[key] = _mask_leaf(self.rules, decide, value, name)
                    changed = changed or holder[key] is not value
        return changed

    def mask_block(self, block: dict[str, Any], where: str) -> bool:
        """Mask a whole content block in place; say whether it was changed."""
        given = block.get("input") if where == TOOL_INPUT else None
        if given is None or not isinstance(given, dict | list):
            changed = self.mask_leaves(block, where)
        else:
            rest = {name: value for name, value in block.items() if name != "input"}
            changed = self.mask_leaves(rest, "block")
            block.update(rest)
            changed = self.mask_leaves(given, where) or changed
        return changed

    # --- thinking ---------------------------------------------------------------------------------

    def sign_thought(self, thought: Thought) -> str:
        """Return the signature of a thinking block in which a rule matched: a seal.

        Raises:
            Blocked: no key is configured, so the block could never come back.
        """
        if self._seals is None:
            raise Blocked(self._last_rule, "thinking")
        return self._seals.seal(thought)


def _mask_leaf(rules: RuleSet, decide: Decide, value: Any, name: str | None) -> Any:
    """Return what a leaf becomes; the very same object where nothing matched."""
    if isinstance(value, str):
        masked = mask_string(rules, decide, value, name)
        return value if masked == value else masked
    if isinstance(value, int | float) and not isinstance(value, bool):
        text = msgspec.json.encode(value).decode()
        masked = mask_string(rules, decide, text, name)
        return value if masked == text else masked
    return value
