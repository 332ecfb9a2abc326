"""The readable text of recorded messages, for rows and lists."""

from collections.abc import Sequence

from gateway.messages.answers import read_prompt_text, read_response_text, read_stream_part


class MessageTexts:
    """Finds the readable text in recorded bodies."""

    def prompt_text(self, pieces: Sequence[bytes]) -> str:
        """Return the text of the last user turn among pieces of a request."""
        return read_prompt_text(pieces)

    def response_text(self, content_type: str, body: bytes) -> str:
        """Return the text of an answer, streamed or not."""
        return read_response_text(content_type, body)

    def text_part(self, content_type: str, part: bytes, *, is_first: bool) -> str | None:
        """Return what a part of an answer adds to its text; None if it must be read whole."""
        if not content_type.startswith("text/event-stream"):
            return None
        return read_stream_part(part, is_first=is_first)
