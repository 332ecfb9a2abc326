"""Runs the checks one by one, and says how each ended."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

from gateway.conformance import answering, receiving, refusing, streaming
from gateway.conformance.checks import Bench, Check, Skipped, Unmet
from gateway.conformance.upstream import message, plain

CHECKS: Sequence[Check] = (
    *receiving.CHECKS,
    *answering.CHECKS,
    *streaming.CHECKS,
    *refusing.CHECKS,
)
"""All, by part of the contract."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """How a check ended."""

    check: str
    result: Literal["pass", "fail", "skipped"]
    seen: str

    def as_dict(self) -> dict[str, str]:
        """Return it for JSON."""
        return asdict(self)


async def run(bench: Bench, checks: Sequence[Check] = CHECKS) -> AsyncIterator[Result]:
    """Run checks in order; each begins with a server that answers a plain message."""
    for check in checks:
        bench.upstream.answer_with(plain(message()))
        yield await _run(bench, check)


async def _run(bench: Bench, check: Check) -> Result:
    try:
        return Result(check=check.name, result="pass", seen=await check.run(bench))
    except Unmet as e:
        return Result(check=check.name, result="fail", seen=str(e))
    except Skipped as e:
        return Result(check=check.name, result="skipped", seen=str(e))
    except (OSError, ValueError, KeyError, TypeError, TimeoutError) as e:
        return Result(check=check.name, result="fail", seen=f"{type(e).__name__}: {e}")
