"""Masked thinking comes back through other workers, after a restart, and to nobody else."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from support.deployment import Deployment, free_base_port, running

from gateway.demo.specimens import specimen

ASKED = {"role": "user", "content": "[[demo thinking-secret=aws]]"}
THINKING = {"type": "enabled", "budget_tokens": 1024}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("thinking") / "var"


@pytest.fixture(scope="module")
def base_port() -> int:
    """The port is part of the issuer's name, to which thinking is bound."""
    return free_base_port()


@pytest.fixture(scope="module")
def answered(folder: Path, base_port: int) -> dict[str, Any]:
    """What was answered before the restart."""
    with running(folder, base_port=base_port) as deployment:
        status, answer = call(deployment, "dev", "s1", ASKED)
    assert status == 200
    return answer


@pytest.fixture(scope="module")
def restarted(folder: Path, base_port: int, answered: dict[str, Any]) -> Iterator[Deployment]:
    with running(folder, base_port=base_port) as deployment:
        yield deployment


def call(
    deployment: Deployment, user: str, session: str, *messages: dict[str, Any]
) -> tuple[int, dict[str, Any]]:
    body = {
        "model": "claude-opus-4-8",
        "max_tokens": 2048,
        "thinking": THINKING,
        "messages": messages,
    }
    headers = {
        "authorization": f"Bearer {deployment.token(user=user)}",
        "content-type": "application/json",
        "x-claude-code-session-id": session,
    }
    request = Request(f"{deployment.base_url}/v1/messages", json.dumps(body).encode(), headers)
    try:
        with urlopen(request, timeout=20) as reply:
            return reply.status, json.load(reply)
    except HTTPError as e:
        return e.code, json.load(e)


def turn(answer: dict[str, Any], **fields: str) -> list[dict[str, Any]]:
    """Return a conversation that goes on after an answer."""
    thought, *rest = answer["content"]
    content = [thought | fields, *rest]
    return [ASKED, {"role": "assistant", "content": content}, {"role": "user", "content": "Go on."}]


def test_the_thinking_was_masked_and_its_signature_sealed(answered: dict[str, Any]) -> None:
    thought = answered["content"][0]
    assert thought["type"] == "thinking"
    assert specimen("aws") not in json.dumps(answered)
    assert "[masked:aws_access_key" in thought["thinking"]
    assert thought["signature"].startswith("countersign.1.")


def test_the_server_takes_it_back_after_a_restart(
    restarted: Deployment, answered: dict[str, Any]
) -> None:
    status, answer = call(restarted, "dev", "s1", *turn(answered))
    assert (status, answer.get("error")) == (200, None)


def test_the_server_would_not_take_it_back_as_it_was_masked(
    restarted: Deployment, answered: dict[str, Any]
) -> None:
    status, answer = call(restarted, "dev", "s1", *turn(answered, signature="c2ln"))
    assert status == 400
    assert "signature" in answer["error"]["message"]


@pytest.mark.parametrize(
    ("user", "session", "fields"),
    [
        pytest.param("dev", "s2", {}, id="another session"),
        pytest.param("eve", "s1", {}, id="another subject"),
        pytest.param("dev", "s1", {"signature": "countersign.1.00.AAAA"}, id="forged"),
    ],
)
def test_what_cannot_be_opened_is_refused_with_one_sentence(
    restarted: Deployment, answered: dict[str, Any], user: str, session: str, fields: dict[str, str]
) -> None:
    status, answer = call(restarted, user, session, *turn(answered, **fields))
    assert status == 400
    assert "[thinking.unreadable, exch_" in answer["error"]["message"]
    assert specimen("aws") not in json.dumps(answer)
