"""The list of models as one caller may see it."""

import json
from typing import Any

import pytest

from gateway.messages.sse import Unreadable
from gateway.model_lists import ask_for_all, keep_usable

USABLE = frozenset({"claude-a", "claude-c"})


def page(*ids: str, has_more: bool = False, **fields: Any) -> dict[str, Any]:
    models = [{"type": "model", "id": name, "display_name": name.upper()} for name in ids]
    ends = {"first_id": ids[0] if ids else None, "last_id": ids[-1] if ids else None}
    return {"data": models, "has_more": has_more, **ends, **fields}


@pytest.mark.parametrize(
    ("listed", "shown"),
    [
        pytest.param(
            page("claude-a", "claude-b", "claude-c", "claude-d", has_more=True, new=[1]),
            page("claude-a", "claude-c", has_more=True, new=[1]),
            id="some are taken out",
        ),
        pytest.param(page("claude-b", "claude-d"), page(), id="nothing is left"),
        pytest.param(
            page("claude-b", "claude-d", has_more=True),
            page(has_more=True, first_id="claude-b", last_id="claude-d"),
            id="nothing is left and there is more: the next page can be asked for",
        ),
        pytest.param(
            {"data": [{"id": "claude-a"}, {"id": 1}, {"id": ["claude-a"]}, {}, "claude-a", None]},
            {"data": [{"id": "claude-a"}], "first_id": "claude-a", "last_id": "claude-a"},
            id="what has no id is taken out",
        ),
        pytest.param(page("Claude-A", "claude-a "), page(), id="an id is exact"),
    ],
)
def test_a_page_shows_the_usable_models_only(listed: dict[str, Any], shown: dict[str, Any]) -> None:
    assert json.loads(keep_usable(json.dumps(listed).encode(), USABLE)) == shown


def test_a_page_of_usable_models_is_unchanged() -> None:
    body = b'{ "data": [{"id": "claude-c"}, {"id":"claude-a","x":1.50}],"has_more":false }\n'
    assert keep_usable(body, USABLE) == body


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b'{"data":{}}', b'{"models":[]}', b'{"data":[],"data":[{"id":"claude-b"}]}'],
)
def test_what_is_no_page_of_models_is_not_passed(body: bytes) -> None:
    with pytest.raises(Unreadable):
        keep_usable(body, USABLE)


@pytest.mark.parametrize(
    ("asked", "sent"),
    [
        ("", "limit=1000"),
        ("limit=2", "limit=1000"),
        ("beta=true&limit=2&after_id=claude-a", "beta=true&after_id=claude-a&limit=1000"),
    ],
)
def test_the_longest_page_is_asked_for(asked: str, sent: str) -> None:
    assert ask_for_all(asked) == sent
