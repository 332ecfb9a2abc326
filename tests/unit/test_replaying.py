"""A replay shows what was released, when it was released."""

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.exchanges import detail, stream

from gateway.cli.replaying import play, steps_of
from lake.shown import ChunkOffset

EVENTS = stream(
    ("message_start", {"message": {"id": "msg_1"}}),
    ("content_block_start", {"index": 0, "content_block": {"type": "text", "text": ""}}),
    ("content_block_delta", {"index": 0, "delta": {"type": "text_delta", "text": "Grüße, "}}),
    ("content_block_delta", {"index": 0, "delta": {"type": "text_delta", "text": "Welt\x1b[2J"}}),
    ("content_block_stop", {"index": 0}),
    ("content_block_start", {"index": 1, "content_block": {"type": "tool_use", "name": "Bash"}}),
    (
        "content_block_delta",
        {"index": 1, "delta": {"type": "input_json_delta", "partial_json": "{}"}},
    ),
    ("message_stop", {}),
)
TEXT = "Grüße, Welt\x1b[2J\n[tool_use Bash] {}"


def offsets(ends: list[int], step_ms: float = 100) -> list[ChunkOffset]:
    return [ChunkOffset(end_byte=end, at_ms=n * step_ms) for n, end in enumerate(ends, 1)]


def streamed(body: bytes, ends: list[int], **fields: object) -> list[tuple[float, str]]:
    found = detail(
        response_body=body,
        response_headers={"Content-Type": "text/event-stream; charset=utf-8"},
        chunk_offsets=offsets(ends),
        **fields,
    )
    return list(steps_of(found))


@given(st.lists(st.integers(0, len(EVENTS) + 10)))
def test_whatever_the_chunks_the_text_is_the_same(ends: list[int]) -> None:
    steps = streamed(EVENTS, ends)
    assert "".join(text for _, text in steps) == TEXT
    assert all(first[0] <= second[0] for first, second in pairwise(steps))


def test_a_step_comes_when_its_chunk_was_released() -> None:
    end = EVENTS.index(b"Welt")
    steps = streamed(EVENTS, [end, len(EVENTS)], duration_ms=250.0)
    assert [at for at, _ in steps] == [100, 200, 250]
    assert steps[0][1] == "Grüße, "


def test_time_does_not_step_back_in_a_replay() -> None:
    found = detail(
        response_body=b"abc",
        chunk_offsets=[
            ChunkOffset(end_byte=1, at_ms=500),
            ChunkOffset(end_byte=2, at_ms=-20),
            ChunkOffset(end_byte=3, at_ms=600),
        ],
        duration_ms=10.0,
    )
    assert list(steps_of(found)) == [(500, "a"), (500, "b"), (600, "c"), (600, "")]


@pytest.mark.parametrize("ends", [[], [3], [1, 2, 3, 4, 5, 6, 7]])
def test_an_answer_that_is_no_stream_is_shown_as_it_is(ends: list[int]) -> None:
    body = json.dumps({"text": "Grüße"}, ensure_ascii=False).encode()
    found = detail(response_body=body, chunk_offsets=offsets(ends))
    assert "".join(text for _, text in steps_of(found)) == body.decode()


def test_a_stream_that_stops_being_one_is_shown_as_it_is() -> None:
    broken = EVENTS + b"event: x\ndata: {\n\nrest"
    assert "".join(text for _, text in streamed(broken, [len(broken)])).endswith("data: {\n\nrest")


def test_raw_shows_the_events_themselves() -> None:
    found = detail(
        response_body=EVENTS,
        response_headers={"content-type": "text/event-stream"},
        chunk_offsets=offsets([7, 400, len(EVENTS)]),
    )
    assert "".join(text for _, text in steps_of(found, raw=True)) == EVENTS.decode()


def test_what_was_not_recorded_has_no_steps_to_show() -> None:
    assert list(steps_of(detail(response_body=None, duration_ms=5.0))) == [(5.0, "")]


@pytest.mark.parametrize(
    ("speed", "expected"),
    [
        pytest.param(1.0, [0.1, 0.2], id="true"),
        pytest.param(4.0, [0.025, 0.05], id="four times"),
        pytest.param(0.0, [], id="at once"),
    ],
)
def test_it_plays_at_the_speed_that_is_asked(
    speed: float, expected: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    slept = list[float]()
    play([(100, "a\x1b"), (200, "b")], speed, slept.append, lambda: 0.0)
    assert slept == expected
    assert capsys.readouterr().out == "a\\x1bb\n"
