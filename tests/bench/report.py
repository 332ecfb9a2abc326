"""The report: a table for people, a JSON file with every raw figure for later comparisons."""

import hashlib
import os
import platform
import subprocess
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec
import psutil
from rich.console import Console
from rich.table import Table

from bench.figures import Line
from gateway.sidecar import OPA_VERSION

ROOT = Path(__file__).parents[2]
READING = (
    "Medians over rounds in which the targets took turns; ratios and differences are taken within "
    "a round. Callers, proxy, OPA, recorder and demo Claude share the same cores, so exchanges/s "
    "and latencies at 16 callers say little by themselves: CPU per exchange is the steady figure."
)
_PACKAGES = ("aiohttp", "uvloop", "httptools", "msgspec", "google-re2", "multidict", "yarl")
_COLOURS = {"aim reached": "green", "held": "yellow", "over the floor": "bold red"}


def show(console: Console, lines: Sequence[Line]) -> None:
    """Print the table."""
    table = Table(title="Countersign, one worker, strict recording", title_justify="left")
    table.add_column("figure")
    for column in ("median", "min-max", "floor", "aim"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for line in lines:
        figure, unit = line.figure, line.unit
        colour = _COLOURS.get(line.verdict, "")
        table.add_row(
            line.name,
            f"{_format(figure.median)} {unit}",
            f"{_format(figure.least)}-{_format(figure.most)}" if len(figure.rounds) > 1 else "",
            "" if line.floor is None else f"{line.floor:g} {unit}",
            "" if line.aim is None else f"{line.aim:g} {unit}",
            f"[{colour}]{line.verdict}[/]" if colour else line.verdict,
            style="" if line.row else "dim",
        )
    console.print(table)
    console.print(READING, style="italic")


def _format(value: float) -> str:
    return (
        f"{value:.0f}"
        if abs(value) >= 100
        else f"{value:.3g}"
        if abs(value) < 1
        else f"{value:.2f}"
    )


def write(path: Path, lines: Sequence[Line], raw: dict[str, Any]) -> None:
    """Write all figures with what they were measured on."""
    path.parent.mkdir(exist_ok=True)
    report = {"reading": READING, "measured_on": describe_machine(), **raw, "lines": lines}
    encoded = msgspec.json.encode(report, enc_hook=str)
    path.write_bytes(msgspec.json.format(encoded, indent=1) + b"\n")


def digest_product() -> str:
    """Return a digest of the code and policies measured: it must not change while measuring."""
    digest = hashlib.sha256()
    for folder in ("gateway", "lake", "policies"):
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in {".py", ".rego", ".json"}:
                digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def describe_machine() -> dict[str, Any]:
    """Return what the figures depend on, and nothing that names the machine."""
    return {
        "cpu_count": os.cpu_count(),
        "cpu_model": _cpu_model(),
        "memory_gb": round(psutil.virtual_memory().total / 1024**3),
        "system": platform.system(),
        "python": platform.python_version(),
        "opa": OPA_VERSION,
        "packages": {name: version(name) for name in _PACKAGES},
        "commit": _git("rev-parse", "HEAD"),
        "is_changed": bool(_git("status", "--porcelain")),
    }


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(models, platform.processor())


def _git(*arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return done.stdout.strip()
