"""What `countersign up` says must never hold up what it does."""

import os

import pytest

from gateway.cli.up import _say


@pytest.mark.timeout(10)
def test_a_pipe_that_nobody_empties_holds_nothing_up(monkeypatch: pytest.MonkeyPatch) -> None:
    read_fd, write_fd = os.pipe()
    os.set_blocking(write_fd, False)
    with pytest.raises(BlockingIOError):
        while True:
            os.write(write_fd, b"x" * 4096)
    os.set_blocking(write_fd, True)
    with os.fdopen(write_fd, "w") as full:
        monkeypatch.setattr("sys.stdout", full)
        _say("a process ended")
    os.close(read_fd)


def test_what_is_said_is_one_line_of_text(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    read_fd, write_fd = os.pipe()
    with os.fdopen(write_fd, "w") as pipe:
        monkeypatch.setattr("sys.stdout", pipe)
        _say("a process\nended \x1b[31m")
    with os.fdopen(read_fd) as pipe:
        assert pipe.read() == "a process⏎ended \\x1b[31m\n"
