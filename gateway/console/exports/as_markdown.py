"""A session as Markdown. What was recorded stands in fences that it can't close, or is escaped."""

import re

from gateway.console.exports.transcript import Block, read_turn
from gateway.console.exports.writing import Head, facts_of, format_time
from gateway.display import visible
from lake.shown import ExchangeDetail

_SPECIAL = re.compile(r"([\\`*_{}\[\]()<>#+.!|~&:@=-])")
_BACKTICKS = re.compile("`+")


class MarkdownWriter:
    """Writes a heading per exchange, its facts as a list, its blocks as fences."""

    def __init__(self, head: Head) -> None:
        self._head = head
        self._count = 0

    def begin(self) -> str:
        """Return the title and what the document is of."""
        head = self._head
        return (
            f"# Session {_inline(head.session_id)}\n\n"
            f"- of {_inline(head.owner.subject)} at {_inline(head.owner.issuer)}\n"
            f"- exported {format_time(head.exported_at)} by {_inline(head.exported_by)}\n"
        )

    def exchange(self, found: ExchangeDetail) -> str:
        """Return the section of an exchange."""
        self._count += 1
        turn = read_turn(found)
        facts = "\n".join(f"- {name}: {_inline(value)}" for name, value in facts_of(found))
        asked = "".join(_block("Asked", each) for each in turn.asked)
        answered = "".join(_block("Answered", each) for each in turn.answered)
        return (
            f"\n## {self._count}. {format_time(found.started_at)}, {_inline(found.exchange_id)}\n\n"
            f"{facts}\n{asked}{answered}"
        )

    def end(self) -> str:
        """Return the end, which counts what came before."""
        return f"\n---\n\nEnd of the session: {self._count} exchanges.\n"


def _block(side: str, block: Block) -> str:
    what = " ".join(filter(None, [block.kind, block.title]))
    return f"\n**{side}** ({_inline(what)}):\n\n{_fence(block.text)}\n"


def _fence(text: str) -> str:
    """Return text in a fence that is longer than any run of backticks in it."""
    shown = visible(text)
    longest = max(map(len, _BACKTICKS.findall(shown)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}text\n{shown}\n{fence}"


def _inline(text: str) -> str:
    """Return text of one line in which no character means anything to Markdown or HTML."""
    return _SPECIAL.sub(r"\\\1", visible(text, one_line=True))
