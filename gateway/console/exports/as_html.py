"""A session as one HTML page: no script, nothing loaded, all that was recorded escaped."""

from html import escape
from typing import Final

from gateway.console.exports.style import STYLE
from gateway.console.exports.transcript import Block, read_turn
from gateway.console.exports.writing import Head, facts_of, format_time
from gateway.display import HIDDEN
from gateway.display import escape as escape_hidden
from lake.shown import ExchangeDetail

POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'"
LONG: Final = 4_000
"""Characters from which a block is folded."""
_KEY_FACTS: Final = ("decision", "because", "approval", "masked", "timing", "tokens")
"""Shown at once; the others are folded."""


class HtmlWriter:
    """Writes an article per exchange."""

    def __init__(self, head: Head) -> None:
        self._head = head
        self._count = 0

    def begin(self) -> str:
        """Return the head of the page."""
        head = self._head
        title = _shown(head.session_id)
        return (
            '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
            f'<meta http-equiv="Content-Security-Policy" content="{escape(POLICY)}">\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            '<meta name="referrer" content="no-referrer">\n'
            f"<title>Session {_plain(head.session_id)}</title>\n<style>{STYLE}</style></head>\n"
            f"<body><header><h1>Session {title}</h1>\n"
            f"<p>{_shown(head.owner.subject)} at {_shown(head.owner.issuer)}</p>\n"
            f"<p>Exported {format_time(head.exported_at)} by {_shown(head.exported_by)}</p>"
            "</header>\n<main>\n"
        )

    def exchange(self, found: ExchangeDetail) -> str:
        """Return the article of an exchange."""
        self._count += 1
        turn = read_turn(found)
        facts = facts_of(found)
        key = [pair for pair in facts if pair[0] in _KEY_FACTS]
        others = [("exchange", found.exchange_id)]
        others += [pair for pair in facts if pair[0] not in _KEY_FACTS]
        return (
            f"<article>\n{self._heading(found)}"
            f"{_said('asked', turn.asked)}{_said('answered', turn.answered)}"
            f'<section class="facts">{_list(key)}{_bar(found)}'
            f"<details><summary>All that is recorded of it</summary>{_list(others)}</details>"
            "</section>\n</article>\n"
        )

    def end(self) -> str:
        """Return the end of the page, which counts what came before."""
        return (
            f"</main>\n<footer><p>End of the session: {self._count} exchanges. Times are UTC. "
            "Shown is what each exchange added and what was released; the JSON export has the "
            "bodies whole.</p></footer></body></html>\n"
        )

    def _heading(self, found: ExchangeDetail) -> str:
        ending = "" if found.ending == "delivered" else _badge(found.ending)
        return (
            f'<h2><span class="n">{self._count}</span>'
            f'<span class="at">{format_time(found.started_at)}</span>'
            f'<span class="model">{_shown(found.request_model or "")}</span>'
            f'<span class="end">{_badge(found.outcome)} {ending}</span></h2>\n'
        )


def _badge(word: str) -> str:
    return f'<span class="badge {_class(word)}">{_shown(word)}</span>'


def _class(word: str) -> str:
    """Return a word as a class name of ours; anything else gets none."""
    return word if word.isascii() and word.isalpha() else ""


def _said(side: str, blocks: tuple[Block, ...]) -> str:
    if not blocks:
        return ""
    said = "".join(map(_block, blocks))
    return f'<section class="{side}"><h3>{side}</h3>{said}</section>\n'


def _block(block: Block) -> str:
    kind = "" if block.kind == "text" else ' class="code"'
    text = f'<pre{kind} dir="auto">{_shown(block.text)}</pre>'
    what = " ".join(filter(None, [block.kind, block.title]))
    heading = "" if block.kind == "text" else f"<h3>{_shown(what)}</h3>"
    if len(block.text) > LONG or block.kind in {"thinking", "tool result"}:
        size = f"{len(block.text):,} characters"
        return (
            f'{heading}<details><summary>{size}</summary><div class="folded">{text}</div></details>'
        )
    return heading + text


def _list(facts: list[tuple[str, str]]) -> str:
    items = "".join(f"<dt>{name}</dt><dd>{_shown(value)}</dd>" for name, value in facts)
    return f"<dl>{items}</dl>"


def _bar(found: ExchangeDetail) -> str:
    """Return a bar that shows how much of the time was waiting for the first byte."""
    first = found.time_to_first_byte_ms
    if first is None or found.duration_ms <= 0:
        return ""
    share = max(0.0, min(100.0, 100 * first / found.duration_ms))
    colours = f"var(--soft) {share:.1f}%, var(--good) {share:.1f}%"
    return (
        f'<div class="bar" title="{share:.0f} % of the time until the first byte" '
        f'style="background:linear-gradient(to right, {colours})"></div>'
    )


def _shown(text: str) -> str:
    """Return text escaped, with each hidden character marked."""
    escaped = escape(text)
    return HIDDEN.sub(
        lambda found: f'<span class="hidden">{escape_hidden(found[0])}</span>', escaped
    )


def _plain(text: str) -> str:
    """Return text escaped, for where no mark-up may stand."""
    return HIDDEN.sub(lambda found: escape_hidden(found[0]), escape(text))
