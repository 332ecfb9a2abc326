"""What the demo Claude reads in a request: types for the fields it uses, and what was asked.

Unknown fields are accepted, as the real API's clients send new ones with every release. Pure.
"""

import re
from typing import Annotated, Any, Literal

import msgspec

NEXT_ROUND = "[[demo then]]"
"""Stands between the parts of a prompt, of which each steers one round of a loop of tools."""

_REMINDER = re.compile(r"<system-reminder>.*?</system-reminder>", re.DOTALL)
_MARK = b'"cache_control"'


class Block(msgspec.Struct, frozen=True):
    """A content block: the fields of the kinds that the demo looks at."""

    type: str
    text: str = ""
    thinking: str = ""
    signature: str = ""
    content: msgspec.Raw = msgspec.Raw(b"")

    @property
    def size(self) -> int:
        """Characters of its text, roughly; media count as nothing."""
        return len(self.text) + len(self.thinking) + len(memoryview(self.content))

    def result_text(self) -> str:
        """Return the text of a tool result, which is a string or blocks."""
        if not len(memoryview(self.content)):
            return ""
        content = msgspec.json.decode(self.content, type=str | list[Block] | None) or ""
        return content if isinstance(content, str) else " ".join(part.text for part in content)


class Turn(msgspec.Struct, frozen=True):
    """One message of the conversation."""

    role: Literal["user", "assistant", "system"]
    content: str | list[Block]

    @property
    def blocks(self) -> list[Block]:
        """Its content as blocks, also where it came as a string."""
        if isinstance(self.content, str):
            return [Block(type="text", text=self.content)]
        return self.content


class Thinking(msgspec.Struct, frozen=True):
    """Whether the caller wants thinking."""

    type: Literal["enabled", "adaptive", "disabled"]


class Format(msgspec.Struct, frozen=True):
    """The form of a structured output."""

    type: str
    schema: dict[str, Any] = {}


class OutputConfig(msgspec.Struct, frozen=True):
    """What the caller wants of the output."""

    format: Format | None = None


class Tool(msgspec.Struct, frozen=True):
    """A declared tool."""

    name: str = ""


class Prompt(msgspec.Struct, frozen=True, kw_only=True):
    """The body of a request that counts tokens, and the base of one that wants an answer."""

    model: str
    messages: Annotated[list[Turn], msgspec.Meta(min_length=1)]
    system: msgspec.Raw = msgspec.Raw(b"")
    tools: msgspec.Raw = msgspec.Raw(b"")
    thinking: Thinking | None = None
    output_config: OutputConfig | None = None

    @property
    def has_thinking(self) -> bool:
        """Whether thinking is on."""
        return self.thinking is not None and self.thinking.type != "disabled"

    @property
    def schema(self) -> dict[str, Any] | None:
        """The JSON schema that the answer must satisfy, if one is given."""
        if self.output_config is None or self.output_config.format is None:
            return None
        return self.output_config.format.schema

    def asked(self) -> Turn | None:
        """Return the last message of the user; a system message may follow it."""
        return next((turn for turn in reversed(self.messages) if turn.role == "user"), None)

    def step(self) -> str:
        """Return what the user said last; in a loop of tools, what the prompt says of this round.

        A prompt has parts for the rounds of a loop, with `NEXT_ROUND` between them.
        """
        rounds = 0
        for turn in reversed(self.messages):
            if turn.role != "user":
                continue
            if all(block.type != "tool_result" for block in turn.blocks):
                parts = plain_text(turn).split(NEXT_ROUND)
                if rounds < len(parts):
                    return parts[rounds]
                break
            rounds += 1
        return plain_text(self.asked())

    def first_tool(self) -> str:
        """Return the name of the first declared tool, or a name of our own."""
        if not len(memoryview(self.tools)):
            return "demo_tool"
        tools = msgspec.json.decode(self.tools, type=list[Tool] | None) or [Tool()]
        return tools[0].name or "demo_tool"

    def thoughts(self) -> list[Block]:
        """Return the thinking blocks that came back with the conversation."""
        return [
            block
            for turn in self.messages
            if turn.role == "assistant" and not isinstance(turn.content, str)
            for block in turn.content
            if block.type == "thinking"
        ]

    def tokens(self) -> tuple[int, int]:
        """Return about how many tokens come in anew, and how many from the cache.

        What precedes the messages counts as cached when a cache mark is in it.
        """
        fixed = len(memoryview(self.system)) + len(memoryview(self.tools))
        said = sum(
            len(turn.content)
            if isinstance(turn.content, str)
            else sum(block.size for block in turn.content)
            for turn in self.messages
        )
        if _MARK in bytes(self.system) or _MARK in bytes(self.tools):
            return count_tokens(said), count_tokens(fixed)
        return count_tokens(said + fixed), 0


class Question(Prompt, frozen=True, kw_only=True):
    """The body of a request that wants an answer."""

    max_tokens: Annotated[int, msgspec.Meta(ge=1)]
    stream: bool = False


def count_tokens(characters: int) -> int:
    """Return about how many tokens so many characters are."""
    return characters // 4 + 1


def plain_text(turn: Turn | None) -> str:
    """Return the text of a message without the reminders that a client put around it."""
    if turn is None:
        return ""
    text = "\n".join(block.text for block in turn.blocks if block.type == "text")
    return _REMINDER.sub("", text) if "<system-reminder>" in text else text


def tool_results(turn: Turn | None) -> list[str]:
    """Return the texts of the tool results in a message."""
    if turn is None:
        return []
    return [block.result_text() for block in turn.blocks if block.type == "tool_result"]


def shorten(text: str, limit: int = 160) -> str:
    """Return a text on one line, of at most so many characters."""
    line = " ".join(text[: limit * 8].split())
    return line if len(line) <= limit else line[: limit - 1].rstrip() + "…"
