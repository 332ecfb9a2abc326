"""The guides' commands do what they show; `…` in what they show stands for anything."""

import re
import subprocess
from pathlib import Path

import pytest
from support.deployment import ROOT, running

BLOCK = re.compile(r"<!-- run -->\n```sh\n(.*?)```\n```\w*\n(.*?)```", re.DOTALL)
GUIDES = [path for path in sorted((ROOT / "docs").glob("*.md")) if BLOCK.search(path.read_text())]


@pytest.mark.timeout(180)
@pytest.mark.parametrize("guide", GUIDES, ids=lambda path: path.stem)
def test_what_a_guide_shows_is_what_one_sees(guide: Path, tmp_path: Path) -> None:
    blocks = BLOCK.findall(guide.read_text())
    assert blocks
    with running(tmp_path / "var") as deployment:
        for commands, shown in blocks:
            script = commands.replace(". var/demo.env", f". {deployment.folder}/demo.env")
            script = script.replace("tour.html", f"{tmp_path}/tour.html")
            done = subprocess.run(
                ["bash", "-euo", "pipefail", "-c", script],
                cwd=ROOT,
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            assert done.returncode == 0, done.stderr
            seen = " ".join(done.stdout.replace(f"{tmp_path}/", "").split())
            for line in shown.splitlines():
                parts = [re.escape(" ".join(part.split())) for part in line.split("…")]
                assert re.search(".*?".join(parts), seen), f"{line!r} is not in:\n{done.stdout}"
