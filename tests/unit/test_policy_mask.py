"""`countersign policy mask` shows where a value stands, and never the value unless asked."""

import subprocess
import sys
from pathlib import Path

import pytest
from support.shipped import ROOT, value_of

SECRET = value_of("aws_access_key")
TEXT = f"one\n  key {SECRET},\x1b[31m\nmail erika@example.org and {SECRET}\n"


def run(tmp_path: Path, *arguments: str, text: str | bytes = TEXT) -> tuple[int, str, str]:
    file = tmp_path / "notes.txt"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    command = [sys.executable, "-m", "gateway", "policy", "mask", str(file)]
    folder = ("--folder", str(tmp_path / "no-deployment"))
    done = subprocess.run(
        [*command, *folder, *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout, done.stderr


def test_it_says_where_and_by_which_rule_and_shows_the_masked_text(tmp_path: Path) -> None:
    assert run(tmp_path) == (
        0,
        "2:7  aws_access_key  20 characters\n"
        "3:28  aws_access_key  20 characters\n"
        "2 values would be masked:\n"
        "\n"
        "one\n  key [masked:aws_access_key],\\x1b[31m\n"
        "mail erika@example.org and [masked:aws_access_key]\n",
        "",
    )


def test_rules_are_chosen_by_name_and_topic_and_values_shown_when_asked(tmp_path: Path) -> None:
    status, said, _ = run(tmp_path, "--rules", "keys,email", "--show")
    assert (status, said.splitlines()[:2]) == (
        0,
        ["3:6  email  17 characters  erika@example.org", "1 value would be masked:"],
    )


def test_nothing_to_mask_is_said_in_one_line(tmp_path: Path) -> None:
    assert run(tmp_path, text="nothing") == (0, "0 values would be masked.\n", "")


@pytest.mark.parametrize(
    ("arguments", "text", "why"),
    [
        pytest.param(("--rules", "nix"), "a", "no mask and no topic of the name 'nix'", id="name"),
        pytest.param((), b"\xff", "is not text in UTF-8", id="not text"),
        pytest.param(("--source", "docs"), "a", "the bundle has no tables", id="no policies"),
    ],
)
def test_what_cant_be_done_is_said_in_one_line(
    tmp_path: Path, arguments: tuple[str, ...], text: str | bytes, why: str
) -> None:
    status, said, complaint = run(tmp_path, *arguments, text=text)
    assert (status, said, len(complaint.splitlines())) == (1, "", 1)
    assert why in complaint
