"""The README's commands do what it shows, and the generated documents are up to date."""

import re
import subprocess
from pathlib import Path

import pytest
from support.deployment import ROOT, running
from support.docs import GENERATED

README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"<!-- run -->\n```sh\n(.*?)```\n```\w*\n(.*?)```", README, re.DOTALL)


def test_what_the_readme_shows_is_what_one_sees(tmp_path: Path) -> None:
    with running(tmp_path / "var") as deployment:
        pause = "sleep 5\n"
        script = pause.join(f"{commands}\necho; echo ==\n" for commands, _ in BLOCKS)
        script = script.replace(". var/demo.env", f". {deployment.folder}/demo.env")
        done = subprocess.run(
            ["bash", "-euc", script],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    seen = done.stdout.split("==\n")[: len(BLOCKS)]
    for (_, shown), output in zip(BLOCKS, seen, strict=True):
        for words in re.findall(r'"(?:message|text)":"((?:[^"\\]|\\.)*)"', shown) or [shown]:
            expected = re.sub(r", exch_\w+\]", "", words)
            assert _comparable(expected) in _comparable(output)


def _comparable(text: str) -> str:
    """Return a text without what differs from one session to the next: tags, line breaks."""
    return " ".join(re.sub(r"(\[masked:\w+)#[0-9a-f]{8}\]", r"\1]", text).split())


@pytest.mark.parametrize("path", GENERATED, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_generated_document_is_up_to_date(path: Path) -> None:
    assert path.read_text() == GENERATED[path](), "run `make docs`"
