"""The row about OPA: its CPU per decision, shipped policies against one that does nothing.

Both are asked as the product asks, over the unix socket and with the product's `system.authz`, by
500 principals of 20 teams. Both answer with the same document, so that only the deciding differs.
"""

import asyncio
import json
import secrets
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import cycle
from pathlib import Path
from typing import Any

import msgspec
import psutil

from bench.figures import Line, Spread, spread
from gateway.bundles import Bundle, build_bundle
from gateway.clock import format_time
from gateway.config import Settings
from gateway.contract import Decision, DecisionInput, Gateway, Net, PrincipalInput
from gateway.decisions import SUPPORTS
from gateway.domain import Approval, Client, Context, ExchangeId, Failure, Outcome, Request, Route
from gateway.opa import OpaClient, Policy
from gateway.sidecar import opa_command, opa_environment

PRINCIPALS = 500
TEAMS = 20
CONNECTIONS = 4
START_S = 20
_NO_TABLES = """package gateway.tables

main := {"masks": {}, "topics": {}, "signals": {}}
"""
_NO_OP = "package gateway.decision\n\n# METADATA\n# entrypoint: true\nmain := {}\n"


class OpaTurn(msgspec.Struct, frozen=True, kw_only=True):
    """One OPA's turn in one round; raw."""

    round: int
    opa: str
    decisions: int
    wall_s: float
    cpu_s: float

    @property
    def cpu_ms(self) -> float:
        """CPU per decision."""
        return self.cpu_s * 1000 / self.decisions


class _Opa:
    """A running OPA with one bundle."""

    def __init__(self, name: str, socket: Path, token: str, revision: str, pid: int) -> None:
        self.name = name
        self.revision = revision
        self._socket = socket
        self._token = token
        self._process = psutil.Process(pid)

    def wait(self, question: DecisionInput) -> Decision:
        """Return its first whole decision."""
        until = time.monotonic() + START_S
        while True:
            try:
                return asyncio.run(self._ask_once(question))
            except Failure:
                if time.monotonic() > until:
                    raise
                time.sleep(0.1)

    def take_turn(self, number: int, questions: Sequence[DecisionInput], seconds: float) -> OpaTurn:
        """Ask for some seconds over all connections."""
        before, began = self._process.cpu_times(), time.monotonic()
        decisions = asyncio.run(self._ask_for(questions, seconds))
        after, ended = self._process.cpu_times(), time.monotonic()
        return OpaTurn(
            round=number,
            opa=self.name,
            decisions=decisions,
            wall_s=ended - began,
            cpu_s=after.user + after.system - before.user - before.system,
        )

    async def _ask_once(self, question: DecisionInput) -> Decision:
        client = OpaClient(str(self._socket), self._token)
        try:
            return await Policy(client).decide(question)
        finally:
            client.close()

    async def _ask_for(self, questions: Sequence[DecisionInput], seconds: float) -> int:
        client = OpaClient(str(self._socket), self._token, deadline_s=5, connections=CONNECTIONS)
        policy, until, count = Policy(client), time.monotonic() + seconds, 0
        order = cycle(questions)

        async def ask() -> None:
            nonlocal count
            while time.monotonic() < until:
                question = msgspec.structs.replace(next(order), signals_revision=self.revision)
                decision = await policy.decide(question)
                if decision.outcome is not Outcome.ALLOW:
                    raise AssertionError(f"{self.name} did not allow: {decision.result_json!r}")
                count += 1

        async with asyncio.TaskGroup() as asking:
            for _ in range(CONNECTIONS):
                asking.create_task(ask())
        client.close()
        return count


def measure_opa(
    policies: Path, folder: Path, say: Callable[[str], None], *, rounds: int, seconds: float
) -> list[OpaTurn]:
    """Measure the shipped policies and the one without any work, each with and without authz."""
    program = Settings(demo=True).policy.opa.absolute()
    shipped = build_bundle(program, _write_company(policies, folder / "shipped"))
    questions = _make_questions()
    with ExitStack() as stack:
        first = stack.enter_context(_run(program, folder, "shipped", shipped, has_authz=True))
        question = msgspec.structs.replace(questions[0], signals_revision=first.revision)
        answer = first.wait(question).result_json
        no_op = build_bundle(program, _write_no_op(policies, folder / "no-op", answer))
        opas = [
            first,
            stack.enter_context(_run(program, folder, "no-op", no_op, has_authz=True)),
            stack.enter_context(
                _run(program, folder, "shipped, no authz", shipped, has_authz=False)
            ),
            stack.enter_context(_run(program, folder, "no-op, no authz", no_op, has_authz=False)),
        ]
        for opa in opas:
            opa.wait(msgspec.structs.replace(question, signals_revision=opa.revision))
            opa.take_turn(-1, questions, 0.5)
        turns: list[OpaTurn] = []
        for number in range(rounds):
            say(f"OPA's decisions: round {number + 1} of {rounds}")
            start = number % len(opas)
            turns += [
                opa.take_turn(number, questions, seconds) for opa in (*opas[start:], *opas[:start])
            ]
    return turns


def opa_lines(turns: Sequence[OpaTurn]) -> Iterator[Line]:
    """Yield the ratio, and the CPU per decision of each."""
    yield Line(
        row=2,
        name="OPA CPU per decision, shipped policies, against a no-op policy",
        figure=_ratio(turns, ""),
        unit="x",
        floor=3,
        aim=2,
    )
    name = "  the same without authz on both sides"
    yield Line(name=name, figure=_ratio(turns, ", no authz"), unit="x")
    for opa in dict.fromkeys(turn.opa for turn in turns):
        figure = spread(turn.cpu_ms for turn in turns if turn.opa == opa)
        yield Line(name=f"  {opa}, CPU per decision", figure=figure, unit="ms")


def _ratio(turns: Sequence[OpaTurn], suffix: str) -> Spread:
    costs = {(turn.round, turn.opa): turn.cpu_ms for turn in turns}
    rounds = dict.fromkeys(turn.round for turn in turns)
    return spread(costs[n, f"shipped{suffix}"] / costs[n, f"no-op{suffix}"] for n in rounds)


@contextmanager
def _run(
    program: Path, folder: Path, name: str, bundle: Bundle, *, has_authz: bool
) -> Iterator[_Opa]:
    """Run OPA as the product does, but with the bundle from a file and without a second address."""
    place = folder / f"opa-{name.replace(', ', '-').replace(' ', '-')}"
    (place / "run").mkdir(parents=True)
    archive = place / "bundle.tar.gz"
    archive.write_bytes(bundle.archive)
    settings = Settings(demo=True, folder=place)
    kept = [
        part
        for part in opa_command(settings)
        if not part.startswith(("--set=", "--addr=127.0.0.1:"))
        and (has_authz or not part.startswith(("--authentication", "--authorization")))
    ]
    command = [*kept, f"--set=bundles.gateway.resource=file://{archive}"]
    token = secrets.token_urlsafe(32)
    process = subprocess.Popen(
        command,
        env=opa_environment(token, secrets.token_urlsafe(32)),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield _Opa(name, settings.opa_socket, token, bundle.revision, process.pid)
    finally:
        process.terminate()
        process.wait(10)


# --- policies and questions -----------------------------------------------------------------------


def _write_company(policies: Path, target: Path) -> Path:
    """Copy the shipped policies, with the settings, groups and Rego of 20 teams instead of two."""
    shutil.copytree(policies, target)
    path = target / "gateway" / "config" / "data.json"
    config: dict[str, Any] = json.loads(path.read_text())
    rules = [p.read_text() for p in sorted((policies / "gateway" / "teams").glob("*/policy.rego"))]
    for number, team in enumerate(map(_team, range(TEAMS))):
        config["teams"][team] = {"settings": {"wait_s": 60 + number}}
        config["groups"][team] = {"team": team, "mcp_hosts": {f"mcp.{team}.test": True}}
        config["repositories"][f"acme/{team}"] = {"production": False}
        lines = rules[number % len(rules)].splitlines()
        package = next(n for n, line in enumerate(lines) if line.startswith("package "))
        lines[package] = f"package gateway.teams.{team}"
        folder = target / "gateway" / "teams" / team
        folder.mkdir()
        (folder / "policy.rego").write_text("\n".join(lines) + "\n")
    path.write_text(json.dumps(config))
    return target


def _write_no_op(policies: Path, target: Path, answer: bytes) -> Path:
    """Write a bundle that gives one constant answer, under the same authz."""
    shutil.copytree(policies / "system", target / "system")
    shutil.copy(policies / ".manifest", target / ".manifest")
    (target / "gateway").mkdir()
    rule = _NO_OP.replace("{}", answer.decode())
    (target / "gateway" / "decision.rego").write_text(rule)
    (target / "gateway" / "tables.rego").write_text(_NO_TABLES)
    return target


def _team(number: int) -> str:
    return f"team_{number:02}"


def _make_questions() -> list[DecisionInput]:
    return [_make_question(number) for number in range(PRINCIPALS)]


def _make_question(number: int) -> DecisionInput:
    team = _team(number % TEAMS)
    repository = Context(value=f"acme/{team}", source="header")
    return DecisionInput(
        now=format_time(time.time_ns()),
        principal=PrincipalInput(
            issuer="https://issuer.test",
            sub=f"user-{number:03}",
            person=f"user-{number:03}@acme.test",
            kind="user",
            groups=("eng", team),
            claims={},
            token_age_s=number,
        ),
        request=Request(
            id=ExchangeId(f"exch_{number:028x}"),
            route=Route.MESSAGES,
            method="POST",
            model="claude-sonnet-4-5",
            stream=True,
            max_tokens=1024,
            tools=("Bash", "Edit", "Grep", "Read", "Write"),
            messages=1 + number % 7,
            body_bytes=1200 + number,
            prompt_chars=1024,
            client=Client(name="claude-cli", version="2.1.197"),
            session=Context(value=f"session-{number}", source="header"),
            repositories=(repository,),
        ),
        signals={},
        signals_revision="",
        endpoints=("claude",),
        net=Net(peer="127.0.0.1"),
        approval=Approval(),
        gateway=Gateway(version="bench", supports=SUPPORTS),
    )
