"""One child: its waits, its ends and its log."""

import signal
from pathlib import Path

import pytest

from gateway.children import BackOff, Child, Life, describe_end


def test_the_wait_doubles_up_to_a_bound_and_begins_anew_after_a_good_life() -> None:
    back_off = BackOff()
    waits = [back_off.wait_s(1.0) for _ in range(10)]
    assert waits == [0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 30.0, 30.0]
    assert [back_off.wait_s(60.0), back_off.wait_s(1.0)] == [0.2, 0.4]


@pytest.mark.parametrize(
    ("exit_code", "words"),
    [(0, "exit 0"), (3, "exit 3"), (-signal.SIGSEGV, "SIGSEGV"), (-200, "signal 200")],
)
def test_an_end_is_told_in_two_words(exit_code: int, words: str) -> None:
    assert describe_end(exit_code) == words


def never() -> Life:
    raise AssertionError


def test_the_last_words_are_the_end_of_a_trace_and_not_its_rule(tmp_path: Path) -> None:
    child = Child("worker", tmp_path / "worker.log", never)
    child.log.write_text("  | ValueError: why\n    +-----------------\n\n")
    assert child.last_words() == "ValueError: why"


def test_only_the_end_of_a_large_log_is_read(tmp_path: Path) -> None:
    child = Child("worker", tmp_path / "worker.log", never)
    assert child.last_words() == ""
    child.log.write_bytes(b"x" * 10_000 + b"\nthe \xff last\n\n")
    assert child.last_words() == "the \N{REPLACEMENT CHARACTER} last"
