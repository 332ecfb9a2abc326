"""Figures: summaries of samples, and medians with their spread over rounds; pure."""

from collections.abc import Iterable, Sequence
from statistics import median

import msgspec


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """Samples of one round, in milliseconds."""

    count: int
    p50: float
    p99: float
    largest: float


class Spread(msgspec.Struct, frozen=True, kw_only=True):
    """One figure over the rounds."""

    median: float
    least: float
    most: float
    rounds: tuple[float, ...]


def summarize(samples_ms: Sequence[float]) -> Summary:
    """Return the summary of samples; all zero where there are none."""
    if not samples_ms:
        return Summary(count=0, p50=0.0, p99=0.0, largest=0.0)
    ordered = sorted(samples_ms)
    last = len(ordered) - 1
    return Summary(
        count=len(ordered),
        p50=ordered[round(last * 0.5)],
        p99=ordered[round(last * 0.99)],
        largest=ordered[last],
    )


def spread(values: Iterable[float]) -> Spread:
    """Return the median of a figure over the rounds, with the least and the most."""
    rounds = tuple(values)
    return Spread(median=median(rounds), least=min(rounds), most=max(rounds), rounds=rounds)


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the report."""

    name: str
    figure: Spread
    unit: str
    row: int = 0
    """Row of the design's table of numbers; 0 for what is shown for information."""
    floor: float | None = None
    """What the figure must not exceed."""
    aim: float | None = None
    """What it should not exceed."""

    @property
    def verdict(self) -> str:
        """How the median stands to floor and aim."""
        if self.floor is None:
            return ""
        if self.figure.median > self.floor:
            return "over the floor"
        return "held" if self.aim is None or self.figure.median > self.aim else "aim reached"
