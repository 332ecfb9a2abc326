"""Exchanges on a terminal. Everything recorded is made visible before it is printed."""

import re
from typing import Any, TypeVar

import msgspec
from rich.console import Console
from rich.text import Text

from gateway.cli.terminal import Complaint
from gateway.console.exports.masks import mask_rows, masks_in_force
from gateway.console.exports.transcript import Block, read_turn
from gateway.console.exports.writing import facts_of, format_time
from gateway.display import visible
from lake.shown import ExchangeDetail, Hit

_T = TypeVar("_T")
_COLOURS = {
    "allow": "green",
    "delivered": "green",
    "deny": "red",
    "refused": "red",
    "failed": "red",
}
_INDENT = "  "


def read_exchange(answer: Any) -> ExchangeDetail:
    """Return an exchange that the console answered."""
    return _read(answer, ExchangeDetail)


def _read(answer: Any, kind: type[_T]) -> _T:
    try:
        return msgspec.convert(answer, kind, builtin_types=())
    except msgspec.MsgspecError as e:
        raise Complaint(f"the console is of another version than this command: {e}") from e


def show_hit(answer: Any, text: str | None) -> None:
    """Print where and what a search found, the text in bold."""
    hit, console = _read(answer, Hit), Console(soft_wrap=True)
    line = Text(f"{format_time(hit.started_at)}  {visible(hit.exchange_id, one_line=True)}")
    for word in (f"session {hit.session_id}", hit.subject, hit.request_model or ""):
        line.append("  " + visible(word, one_line=True))
    for word in (hit.outcome, *hit.reasons, hit.ending):
        line.append("  " + visible(word, one_line=True), style=_COLOURS.get(word, "yellow"))
    console.print(line)
    if hit.snippet:
        shown = Text(f"{_INDENT}{hit.found_in or 'prompt'}: ", style="dim")
        found = Text(visible(hit.snippet, one_line=True), style="not dim")
        if text:
            found.highlight_regex(f"(?i){re.escape(visible(text, one_line=True))}", "bold reverse")
        console.print(shown + found)


def show_exchange(found: ExchangeDetail, *, bodies: bool) -> None:
    """Print one exchange: its facts, what was asked and answered, its bodies if wanted."""
    console = Console(soft_wrap=True)
    title = f"{format_time(found.started_at)}  {found.exchange_id}"
    console.print(Text(visible(title, one_line=True), style="bold"))
    for name, value in facts_of(found):
        word = value.partition(" ")[0]
        style = _COLOURS.get(word, "") if name in {"decision", "ending"} else ""
        console.print(Text.assemble((f"{name:<10}", "dim"), (visible(value, one_line=True), style)))
    _show_masks(console, found)
    turn = read_turn(found)
    for side, blocks in (("asked", turn.asked), ("answered", turn.answered)):
        for block in blocks:
            _show_block(console, side, block)
    if bodies:
        for side, body in (("request", found.request_body), ("response", found.response_body)):
            console.print(Text(f"--- {side} body", style="dim"))
            console.print(Text(visible((body or b"").decode(errors="replace"))))
    console.print()


def _show_masks(console: Console, found: ExchangeDetail) -> None:
    """Print what masking did, and by which rules it would have: never a value."""
    rows, in_force = mask_rows(found), masks_in_force(found)
    if not rows:
        return
    console.print(Text("masks", style="bold cyan"))
    for row in rows:
        line = f"{row.rule}  x{row.times}  {row.direction}  {row.place}  {row.done}"
        console.print(Text(_INDENT + visible(line, one_line=True)))
    console.print(Text(f"{_INDENT}in force {visible(in_force, one_line=True)}", style="dim"))


def _show_block(console: Console, side: str, block: Block) -> None:
    what = " ".join(filter(None, [side, "" if block.kind == "text" else block.kind, block.title]))
    console.print(Text(visible(what, one_line=True), style="bold cyan"))
    for line in visible(block.text).split("\n"):
        console.print(Text(_INDENT + line))
