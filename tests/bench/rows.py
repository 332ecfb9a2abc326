"""The rows over whole calls: rounds in which every target has its turn, in rotating order."""

import time
from collections.abc import Callable, Iterator, Sequence

import msgspec

from bench.figures import Line, Spread, Summary, spread
from bench.load import Job, Result
from bench.targets import Load, Target

MODEL = "claude-sonnet-4-5"
_MEGABYTE = 1024 * 1024


class Kind(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked of the demo Claude."""

    directive: str
    answer_chars: int
    stream: bool = False


PLAIN = Kind(directive="[[demo length=1024]]", answer_chars=1024)
STREAM = Kind(directive="[[demo length=1408 split=22]]", answer_chars=1408, stream=True)
PACED = msgspec.structs.replace(STREAM, directive="[[demo length=1408 split=22 pace=20]]")
"""Both in 64 deltas."""


class Turn(msgspec.Struct, frozen=True, kw_only=True):
    """One target's turn in one round; raw."""

    row: str
    round: int
    target: str
    result: Result
    cpu_s: dict[str, float]
    """User and system time by process during the turn."""
    gateway_rss_mb: float
    """Resident memory of the proxy itself after the turn."""

    def cpu_ms(self, part: str) -> float:
        """Return the CPU that a process used per exchange."""
        return self.cpu_s[part] * 1000 / self.result.exchanges

    @property
    def rate(self) -> float:
        """Exchanges per second."""
        return self.result.exchanges / self.result.wall_s


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """All turns of one row."""

    job: Job
    turns: tuple[Turn, ...]
    recorder_ms: float | None
    """CPU of the recorder per exchange, over all turns and until it had caught up."""

    def spread(self, target: str, value: Callable[[Turn], float]) -> Spread:
        """Return a figure of one target over the rounds."""
        return spread(value(turn) for turn in self.turns if turn.target == target)

    def compare(
        self,
        target: str,
        base: str,
        value: Callable[[Turn], float],
        operation: Callable[[float, float], float],
    ) -> Spread:
        """Return a figure of one target against a base, within each round."""
        pairs: dict[int, dict[str, float]] = {}
        for turn in self.turns:
            if turn.target in {target, base}:
                pairs.setdefault(turn.round, {})[turn.target] = value(turn)
        return spread(operation(pair[target], pair[base]) for pair in pairs.values())


class Bench:
    """Runs rows and says how far it is."""

    def __init__(self, load: Load, say: Callable[[str], None]) -> None:
        self._load = load
        self._say = say

    def measure(
        self,
        name: str,
        targets: Sequence[Target],
        kind: Kind,
        *,
        rounds: int,
        callers: int,
        seconds: float,
        spread_s: float = 0.0,
    ) -> Row:
        """Give every target its turn in each of some rounds."""
        job = Job(
            port=0,
            headers={},
            callers=callers,
            seconds=seconds,
            spread_s=spread_s,
            model=MODEL,
            prompt_chars=1024,
            directive=kind.directive,
            answer_chars=kind.answer_chars,
            stream=kind.stream,
        )
        for target in targets:
            warm_up = msgspec.structs.replace(_job_for(job, target), seconds=0.2)
            self._load.run(warm_up)
            target.settle()
        recorder = _Recorder(targets)
        turns: list[Turn] = []
        for number in range(rounds):
            self._say(f"{name}: round {number + 1} of {rounds}")
            turns += [
                self._take_turn(name, number, target, job) for target in _rotated(targets, number)
            ]
        return Row(job=job, turns=tuple(turns), recorder_ms=recorder.per_exchange_ms(turns))

    def _take_turn(self, row: str, number: int, target: Target, job: Job) -> Turn:
        before = target.cpu_s()
        result = self._load.run(_job_for(job, target))
        after = target.cpu_s()
        gateway = target.processes.get("gateway")
        rss = gateway.memory_info().rss / _MEGABYTE if gateway else 0.0
        target.settle()
        return Turn(
            row=row,
            round=number,
            target=target.name,
            result=result,
            cpu_s={part: after[part] - before[part] for part in after},
            gateway_rss_mb=rss,
        )


class _Recorder:
    """The recorder's time over a whole row, since it works after the calls."""

    def __init__(self, targets: Sequence[Target]) -> None:
        self._targets = [target for target in targets if "recorder" in target.processes]
        self._before = self._spent()

    def _spent(self) -> float:
        return sum(target.cpu_s()["recorder"] for target in self._targets)

    def per_exchange_ms(self, turns: Sequence[Turn]) -> float | None:
        """Wait for the last commit and return the time per exchange."""
        if not self._targets:
            return None
        time.sleep(2)  # the demo's longest wait for a commit
        for target in self._targets:
            target.settle()
        names = {target.name for target in self._targets}
        exchanges = sum(turn.result.exchanges for turn in turns if turn.target in names)
        return (self._spent() - self._before) * 1000 / exchanges


def _job_for(job: Job, target: Target) -> Job:
    return msgspec.structs.replace(job, port=target.port, headers=target.headers)


def _rotated(targets: Sequence[Target], number: int) -> Sequence[Target]:
    start = number % len(targets)
    return [*targets[start:], *targets[:start]]


# --- lines of the report --------------------------------------------------------------------------


def _minus(value: float, base: float) -> float:
    return value - base


def _over(value: float, base: float) -> float:
    return value / base


def _loss(value: float, base: float) -> float:
    return (1 - value / base) * 100


def cpu_lines(row: Row, what: str, number: int) -> Iterator[Line]:
    """Yield the CPU per exchange of the gateway, as a ratio and by process."""
    is_held = number > 0
    yield Line(
        row=number,
        name=f"gateway CPU per {what}, 16 callers, against bare",
        figure=row.compare("countersign", "bare", lambda t: t.cpu_ms("gateway"), _over),
        unit="x",
        floor=2.5 if is_held else None,
        aim=1.5 if is_held else None,
    )
    for target, part in (
        ("countersign", "gateway"),
        ("bare", "gateway"),
        ("countersign", "opa"),
        ("direct", "claude"),
    ):
        figure = row.spread(target, lambda turn, part=part: turn.cpu_ms(part))  # type: ignore[misc]  # bound by default
        label = "demo Claude" if part == "claude" else f"{target}'s {part}"
        yield Line(name=f"  {label}, CPU per {what}", figure=figure, unit="ms")
    if row.recorder_ms is not None:
        figure = spread([row.recorder_ms])
        yield Line(name=f"  countersign's recorder, CPU per {what}", figure=figure, unit="ms")
    for target in ("direct", "bare", "countersign"):
        figure = row.spread(target, lambda turn: turn.rate)
        yield Line(name=f"  {target}, {what}s", figure=figure, unit="/s")


def added_lines(
    row: Row, what: str, number: int, floors: dict[str, tuple[float, float]]
) -> Iterator[Line]:
    """Yield the latency added to direct calls; `floors` holds floor and aim by percentile."""
    values: dict[str, Callable[[Turn], float]] = {
        "p50": lambda turn: _latency(turn).p50,
        "p99": lambda turn: _latency(turn).p99,
    }
    for percentile, value in values.items():
        floor, aim = floors.get(percentile, (None, None))
        yield Line(
            row=number,
            name=f"{what} added at one caller, {percentile}",
            figure=row.compare("countersign", "direct", value, _minus),
            unit="ms",
            floor=floor,
            aim=aim,
        )
        figure = row.compare("bare", "direct", value, _minus)
        yield Line(name=f"  by the bare proxy, {percentile}", figure=figure, unit="ms")
        figure = row.spread("direct", value)
        yield Line(name=f"  direct, {percentile}", figure=figure, unit="ms")


def _latency(turn: Turn) -> Summary:
    return turn.result.first_delta if turn.result.first_delta.count else turn.result.call


def masking_lines(row: Row, what: str) -> Iterator[Line]:
    """Yield what masking costs: `masked` against `unmasked`."""
    yield Line(
        row=5,
        name=f"all masks: {what} throughput lost, 16 callers",
        figure=row.compare("masked", "unmasked", lambda turn: turn.rate, _loss),
        unit="%",
        floor=15,
    )
    figure = row.compare("masked", "unmasked", lambda t: t.cpu_ms("gateway"), _minus)
    yield Line(name="  gateway CPU added by masking", figure=figure, unit="ms")


def pace_lines(row: Row, streams: int) -> Iterator[Line]:
    """Yield how even paced streams arrive."""
    for target in ("direct", "bare", "countersign"):
        figure = row.spread(target, lambda turn: turn.result.gap.p99)
        name = f"{streams} streams, a delta every 20 ms: p99 gap, {target}"
        yield Line(name=name, figure=figure, unit="ms")
    figure = row.compare("countersign", "direct", lambda turn: turn.result.gap.p99, _minus)
    yield Line(name="  countersign's p99 gap above direct", figure=figure, unit="ms")
    figure = row.compare("countersign", "bare", lambda t: t.cpu_ms("gateway"), _over)
    yield Line(name="  gateway CPU per paced stream, against bare", figure=figure, unit="x")


def memory_lines(rows: Sequence[Row]) -> Iterator[Line]:
    """Yield the resident memory of the proxies after each turn."""
    for target in ("bare", "countersign"):
        turns = (turn for row in rows for turn in row.turns if turn.target == target)
        figure = spread(turn.gateway_rss_mb for turn in turns)
        yield Line(name=f"memory of the proxy process, {target}", figure=figure, unit="MB")
