"""The clients as their users run them: programs with an address, a token and a prompt."""

import json
import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support.deployment import Deployment

HERE = Path(__file__).parent
MODULES = HERE / "node_modules"
MODEL = "claude-opus-4-8"
NOTICE = "This is Countersign's demo Claude: no model is behind it."
CLIENT_S = 40
_IDS = re.compile(r"\b(msg|toolu)_\w+")


def untagged(text: str) -> str:
    """Return a text without the tags of what was masked, which differ in each session."""
    return re.sub(r"(\[masked:\w+)#[0-9a-f]{8}\]", r"\1]", text)


@dataclass(frozen=True, kw_only=True)
class Shown:
    """What a client left on the terminal, and how it ended."""

    status: int
    text: str


@dataclass(frozen=True, kw_only=True)
class ClaudeCode:
    """Claude Code as installed on a new machine, with nothing but the gateway to talk to."""

    home: Path
    base_url: str

    def start(self, prompt: str, *arguments: str, **environment: str) -> "subprocess.Popen[str]":
        """Start it with a prompt; it prints its answer and ends."""
        return subprocess.Popen(
            [_claude_program(), "--print", prompt, "--model", MODEL, *arguments],
            cwd=self.home,
            env={**self._environment(), **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def ask(self, prompt: str, *arguments: str, **environment: str) -> Shown:
        """Run it to its end."""
        return finish(self.start(prompt, *arguments, **environment))

    def _environment(self) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "ANTHROPIC_BASE_URL": self.base_url,
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
            "DISABLE_AUTOUPDATER": "1",
            "DISABLE_ERROR_REPORTING": "1",
            "DISABLE_TELEMETRY": "1",
        }


def finish(process: "subprocess.Popen[str]", timeout_s: float = CLIENT_S) -> Shown:
    """Wait for a client to end by itself; one that does not is killed."""
    with process:
        try:
            text, _ = process.communicate(timeout=timeout_s)
        finally:
            process.kill()
    return Shown(status=process.returncode, text=text)


def curl(url: str, token: str, body: Mapping[str, Any] | None, *arguments: str) -> Shown:
    """Run curl; a body goes in by standard input, as it may be large."""
    options = ["--silent", "--show-error", "-H", f"authorization: Bearer {token}"]
    if body is not None:
        options += ["-H", "content-type: application/json", "--data-binary", "@-"]
    process = subprocess.Popen(
        ["curl", *options, *arguments, url],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    with process:
        text, _ = process.communicate(json.dumps(body), timeout=CLIENT_S)
    return Shown(status=process.returncode, text=text)


def typescript(base_url: str, token: str, how: str, prompt: str) -> Shown:
    """Run the script that calls the TypeScript SDK."""
    process = subprocess.Popen(
        ["node", str(HERE / "typescript.mjs"), how, MODEL, prompt],
        env={
            "PATH": os.environ["PATH"],
            "ANTHROPIC_BASE_URL": base_url,
            "ANTHROPIC_AUTH_TOKEN": token,
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    return finish(process)


def without_ids(text: str) -> str:
    """Return an answer without what differs from one answer of the demo Claude to the next."""
    return _IDS.sub(r"\1_", text)


def question(prompt: str, **fields: Any) -> dict[str, Any]:
    """Return the body of a call."""
    turn = {"role": "user", "content": prompt}
    return {"model": MODEL, "max_tokens": 2048, "messages": [turn], **fields}


def recorded(
    deployment: Deployment, user: str, columns: str, count: int = 1
) -> list[dict[str, Any]]:
    """Return the records of a user's calls, in their order, as soon as there are `count`."""
    return deployment.wait_for(
        f"select {columns} from exchanges where subject = '{user}' order by started_at", count
    )


def all_recorded(deployment: Deployment, user: str, columns: str) -> list[dict[str, Any]]:
    """Return the records of all calls that a user made until now, however many they are."""
    fence = f"{user}-fence"
    curl(f"{deployment.base_url}/v1/models", deployment.token(user=fence), None)
    recorded(deployment, fence, "outcome")
    return recorded(deployment, user, columns)


def _claude_program() -> Path:
    """Return the program in the package of this platform, the only one that npm installs."""
    (program,) = (MODULES / "@anthropic-ai").glob("claude-code-*/claude")
    return program
