"""What is not committed yet, through the real deployment: seen at once, once, and never lost."""

import itertools
import json
import os
import signal
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from support.deployment import Deployment, running
from support.messages import ask

VISIBLE_S = 1.0


@pytest.fixture(scope="module")
def paced(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """A deployment that commits seldom enough to look at what is not committed."""
    with running(tmp_path_factory.mktemp("hot") / "var") as started:
        yield started


def get(url: str, token: str) -> Any:
    request = urllib.request.Request(url, headers={"authorization": f"Bearer {token}"})
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=10) as answer:
        return json.load(answer)


def exchanges(deployment: Deployment, token: str, session: str) -> list[dict[str, Any]]:
    try:
        answer = get(f"{deployment.console_url}/api/v1/sessions/{session}", token)
    except urllib.error.HTTPError as e:
        assert e.code == 404
        return []
    found: list[dict[str, Any]] = answer["exchanges"]
    return found


def hot_count(deployment: Deployment) -> int:
    token = (deployment.folder / "run" / "recorder.token").read_text()
    return int(get(f"{deployment.recorder_url}/v1/state", token)["hot"]["exchanges"])


def ask_slowly(
    deployment: Deployment, token: str, session: str, directives: str
) -> threading.Thread:
    def call() -> None:
        ask(
            deployment.base_url,
            token,
            f"say something {directives}",
            stream=True,
            headers={"x-claude-code-session-id": session},
        )

    thread = threading.Thread(target=call)
    thread.start()
    return thread


def test_a_running_stream_is_seen_at_once_and_exactly_once_until_it_is_in_the_tables(
    paced: Deployment,
) -> None:
    token = paced.token("hal", "eng")
    began = time.monotonic()
    call = ask_slowly(paced, token, "s-hot", "[[demo length=320 pace=100]]")
    seen: list[tuple[str, str | None]] = []
    first_s = None
    committed = False
    while not committed and time.monotonic() < began + 40:
        found = exchanges(paced, token, "s-hot")
        if first_s is None and found:
            first_s = time.monotonic() - began
        assert len(found) <= 1, "an exchange is there twice"
        assert found or first_s is None, "an exchange vanished"
        seen += [(item["ending"], item["response_text"]) for item in found]
        committed = not call.is_alive() and not hot_count(paced)
    call.join()
    assert paced.sql("select ending from exchanges where session_id = 's-hot'") == [
        {"ending": "delivered"}
    ]
    assert first_s is not None
    assert first_s < VISIBLE_S
    for _ in range(20):
        (item,) = exchanges(paced, token, "s-hot")
        seen.append((item["ending"], item["response_text"]))
    endings = [ending for ending, _ in seen]
    assert set(endings) == {"running", "delivered"}
    assert endings == sorted(endings, reverse=True), "it went back to running"
    texts = [text or "" for _, text in seen]
    assert all(after.startswith(before) for before, after in itertools.pairwise(texts))
    assert len({text for ending, text in seen if ending == "running"}) > 5


def test_a_running_exchange_is_listed_and_shown_by_the_command_line(paced: Deployment) -> None:
    token = paced.token("ida", "eng")
    call = ask_slowly(paced, token, "s-cli", "[[demo length=2400 pace=100]]")
    time.sleep(VISIBLE_S)
    assert "running 1" in paced.run("sessions", "list", token=token)
    (shown,) = map(
        json.loads,
        paced.run("sessions", "show", "s-cli", "--json", token=token).splitlines(),
    )
    assert (shown["ending"], shown["ended_at"]) == ("running", None)
    assert shown["request_body"]
    assert shown["response_body"]
    assert json.loads(shown["decisions_json"])[0]["outcome"] == "allow"
    assert "ending    running" in paced.run("sessions", "show", "s-cli", token=token)
    call.join()


def test_only_who_knows_the_token_may_ask_the_recorder(paced: Deployment) -> None:
    for token in ("", "wrong", paced.token("ida", "auditors")):
        with pytest.raises(urllib.error.HTTPError, match="401"):
            get(f"{paced.recorder_url}/v1/hot/exchanges", token)
    file = paced.folder / "run" / "recorder.token"
    assert file.stat().st_mode & 0o777 == 0o600
    state = get(f"{paced.recorder_url}/v1/state", file.read_text())
    assert state["recorder"]["failures"] == 0
    assert state["hot"]["corrupt_journals"] == []
    request = urllib.request.Request(
        f"{paced.recorder_url}/metrics", headers={"authorization": f"Bearer {file.read_text()}"}
    )
    with urllib.request.urlopen(request, timeout=5) as answer:
        assert b"countersign_recorder_failed_steps 0.0" in answer.read()


def test_a_recorder_that_does_not_answer_is_named_and_the_tables_are_shown(
    paced: Deployment,
) -> None:
    token = paced.token("joe", "eng")
    ask(paced.base_url, token, "hello", headers={"x-claude-code-session-id": "s-joe"})
    paced.wait_for("select 1 from exchanges where session_id = 's-joe'")
    pid = paced.processes["hot"].pid
    os.kill(pid, signal.SIGSTOP)
    try:
        began = time.monotonic()
        answer = get(f"{paced.console_url}/api/v1/sessions", token)
        assert time.monotonic() - began < 2
        assert answer["incomplete"] == [paced.recorder_url]
        assert [each["session_id"] for each in answer["sessions"]] == ["s-joe"]
        assert "Not all" in paced.run("sessions", "list", token=token)
    finally:
        os.kill(pid, signal.SIGCONT)
    time.sleep(1.2)
    assert get(f"{paced.console_url}/api/v1/sessions", token)["incomplete"] == []


def test_a_killed_recorder_shows_what_runs_as_soon_as_it_is_back(paced: Deployment) -> None:
    token = paced.token("lou", "eng")
    call = ask_slowly(paced, token, "s-lou", "[[demo length=800 pace=100]]")
    until = time.monotonic() + 5
    while not exchanges(paced, token, "s-lou"):
        assert time.monotonic() < until
    os.kill(paced.processes["hot"].pid, signal.SIGKILL)
    until = time.monotonic() + 20
    while get(f"{paced.console_url}/api/v1/sessions", token)["incomplete"]:
        assert time.monotonic() < until
        assert exchanges(paced, token, "s-lou"), "what was known of it is not shown"
    (item,) = exchanges(paced, token, "s-lou")
    assert item["ending"] in {"running", "delivered"}
    call.join()
    rows = paced.wait_for("select ending from exchanges where session_id = 's-lou'")
    assert rows == [{"ending": "delivered"}]


def test_the_index_holds_nothing_of_what_is_committed(paced: Deployment) -> None:
    token = paced.token("kim", "eng")
    ask(paced.base_url, token, "remember zebra-4711", stream=True)
    paced.wait_for("select 1 from exchanges where subject = 'kim'")
    until = time.monotonic() + 5
    while hot_count(paced):
        assert time.monotonic() < until
        time.sleep(0.1)
