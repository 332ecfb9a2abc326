"""Sessions as one document: JSON, Markdown, HTML. Everything recorded is hostile input here."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from gateway.console.exports.as_html import HtmlWriter
from gateway.console.exports.as_json import JsonWriter
from gateway.console.exports.as_markdown import MarkdownWriter
from gateway.console.exports.writing import Head, Writer
from gateway.domain import Fact

__all__ = ["FORMATS", "Form", "Head", "Writer"]


class Form(Fact, frozen=True, kw_only=True):
    """A form of document."""

    media_type: str
    suffix: str
    writer: Callable[[Head], Writer]


FORMATS: Final[Mapping[str, Form]] = MappingProxyType(
    {
        "json": Form(media_type="application/json", suffix="json", writer=JsonWriter),
        "markdown": Form(media_type="text/markdown", suffix="md", writer=MarkdownWriter),
        "html": Form(media_type="text/html", suffix="html", writer=HtmlWriter),
    }
)
