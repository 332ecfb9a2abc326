"""However calls are made, and at whichever worker, no more get through than a limit allows."""

import json
import shutil
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest
from support.deployment import ROOT, Deployment, running

from evasions.calls import (
    Reply,
    Told,
    encode,
    fetch_records,
    prompt,
    read_events,
    read_told,
    request,
    send,
    token_for,
)

HOUR = {"window_s": 3600}
LIMITS: dict[str, dict[str, Any]] = {
    "calls": {"groups": ["calls"], "per": ["person"], "unit": "requests", "limit": 10, **HOUR},
    "team": {"groups": ["team"], "per": ["group"], "unit": "requests", "limit": 10, **HOUR},
    "tokens": {"groups": ["tokens"], "per": ["person"], "unit": "tokens", "limit": 500, **HOUR},
    "places": {
        "groups": ["places"],
        "per": ["person"],
        "unit": "concurrent",
        "limit": 3,
        "window_s": 5,
    },
    "size": {"groups": ["size"], "unit": "max_tokens", "limit": 50},
}
TOOL = {"name": "Bash", "description": "Run.", "input_schema": {"type": "object"}}
REACHED = Told(
    status=429, kind="rate_limit_error", code="limits.reached", retry="later, by a person"
)


@pytest.fixture(scope="module")
def limited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """A deployment with limits and two workers."""
    folder = tmp_path_factory.mktemp("limited")
    policies = folder / "policies"
    shutil.copytree(ROOT / "policies", policies)
    table = policies / "gateway" / "config" / "data.json"
    config = json.loads(table.read_text())
    config["limits"] = LIMITS
    table.write_text(json.dumps(config))
    environment = {"COUNTERSIGN_POLICY__SOURCE": str(policies), "COUNTERSIGN_PROXY__WORKERS": "2"}
    with running(folder / "var", environment=environment) as deployment:
        yield deployment


def at_once(calls: Sequence[Callable[[], Reply]]) -> list[Reply]:
    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(lambda call: call(), calls))


def is_kept(replies: list[Reply]) -> bool:
    """Whether ten got through, or all but the one that the other worker had leased idly."""
    counts = statuses(replies)
    return set(counts) == {200, 429} and counts[200] in {9, 10}


def statuses(replies: list[Reply]) -> Counter[int]:
    return Counter(reply.status for reply in replies)


def test_forty_disguised_calls_at_once_get_ten_through(limited: Deployment) -> None:
    token = token_for(limited, "one", ("eng", "calls"))
    disguises: list[tuple[str, ...]] = [
        (),
        ("x-claude-code-session-id: {n}",),
        ("x-countersign-workflow: nightly-eval", "x-countersign-repository: acme/docs"),
        ("x-forwarded-for: 10.0.0.{n}", "x-app: {n}"),
    ]
    calls = [
        partial(
            send,
            limited,
            request(
                encode(prompt(f"call {n}", stream=n % 2 == 0, metadata={"user_id": str(n)})),
                *(header.format(n=n) for header in disguises[n % 4]),
                target=f"/v1/messages?beta={n}",
                token=token,
                agent=f"limit/{n}",
            ),
            source=f"127.0.0.{n + 1}",
        )
        for n in range(40)
    ]
    replies = at_once(calls)
    assert is_kept(replies)
    assert {read_told(reply) for reply in replies if reply.status == 429} == {REACHED}
    assert all(int(r.headers["retry-after"]) > 3000 for r in replies if r.status == 429)
    records = fetch_records(limited, [f"limit/{n}" for n in range(40)], "error_code", "ending")
    assert Counter((row["ending"], row["error_code"]) for row in records.values()) == {
        ("delivered", None): statuses(replies)[200],
        ("refused", "limits.reached"): statuses(replies)[429],
    }


def test_operators_and_auditors_see_which_limit_it_is(limited: Deployment) -> None:
    token = token_for(limited, "eleven", ("eng", "calls"))
    call = request(encode(prompt()), token=token, agent="named/one")
    while (reply := send(limited, call)).status == 200:
        pass
    exchange_id = json.loads(reply.body)["request_id"]
    shown = limited.run("sessions", "show", exchange_id, token=token)
    assert "limits.reached" in shown
    assert 'The limit "calls" of 10 requests in 3600 s is reached.' in shown
    status = limited.run("status", check=False)
    assert '["calls","eleven","",""]' in status


def test_a_persons_other_account_shares_the_limit_and_others_do_not(limited: Deployment) -> None:
    def call(user: str, person: str) -> Reply:
        token = token_for(limited, user, ("eng", "calls"), person=person)
        return send(limited, request(encode(prompt()), token=token))

    mine = at_once([partial(call, f"account-{n % 2}", "two") for n in range(16)])
    assert is_kept(mine)
    assert call("three", "three").status == 200


def test_the_members_of_a_team_share_its_limit(limited: Deployment) -> None:
    calls = [
        partial(
            send,
            limited,
            request(encode(prompt()), token=token_for(limited, f"m-{n}", ("eng", "team"))),
        )
        for n in range(16)
    ]
    assert is_kept(at_once(calls))


def test_breaking_off_gives_no_tokens_back(limited: Deployment) -> None:
    token = token_for(limited, "four", ("eng", "tokens"))
    body = encode(prompt("[[demo pace=20 length=400]]", max_tokens=200, stream=True))
    for _ in range(2):
        with socket.create_connection(("127.0.0.1", limited.base_port), 20) as connection:
            connection.sendall(request(body, token=token))
            assert connection.recv(12) == b"HTTP/1.1 200"
    reply = send(limited, request(body, token=token))
    assert read_told(reply).code == "limits.reached"


def test_what_an_answer_did_not_use_can_be_used_again(limited: Deployment) -> None:
    token = token_for(limited, "five", ("eng", "tokens"))
    body = encode(prompt("Hi", max_tokens=400))
    for _ in range(4):
        until_ok(lambda: send(limited, request(body, token=token)))


def until_ok(call: Callable[[], Reply]) -> Reply:
    """Call until it is let through; what comes back is known to all workers within a second."""
    until = time.monotonic() + 20
    while (reply := call()).status == 429 and time.monotonic() < until:
        time.sleep(0.1)
    assert reply.status == 200
    return reply


def test_a_call_that_could_never_fit_is_told_so(limited: Deployment) -> None:
    token = token_for(limited, "six", ("eng", "tokens"))
    reply = send(limited, request(encode(prompt(max_tokens=600)), token=token))
    assert read_told(reply) == Told(status=403, kind="permission_error", code="limits.too_large")


def test_calls_at_once_are_limited_streamed_or_not(limited: Deployment) -> None:
    token = token_for(limited, "seven", ("eng", "places"))
    calls = [
        partial(
            send,
            limited,
            request(encode(prompt("[[demo slow=3]]", stream=n % 2 == 0)), token=token),
        )
        for n in range(20)
    ]
    replies = at_once(calls)
    assert statuses(replies) == {200: 3, 429: 17}
    assert {read_told(r) for r in replies if r.status == 429} == {
        Told(status=429, kind="rate_limit_error", code="limits.reached", retry="later")
    }
    again = request(encode(prompt()), token=token)
    until_ok(lambda: send(limited, again))


def test_the_size_of_an_answer_is_limited(limited: Deployment) -> None:
    token = token_for(limited, "eight", ("eng", "size"))
    assert send(limited, request(encode(prompt(max_tokens=50)), token=token)).status == 200
    reply = send(limited, request(encode(prompt(max_tokens=51)), token=token))
    assert read_told(reply) == Told(status=403, kind="permission_error", code="limits.size")


def test_who_has_no_limit_is_not_limited(limited: Deployment) -> None:
    token = token_for(limited, "nine", ("eng",))
    calls = [partial(send, limited, request(encode(prompt()), token=token))] * 30
    assert statuses(at_once(calls)) == {200: 30}


def test_a_stream_that_was_cut_is_not_to_be_had_without_stream(limited: Deployment) -> None:
    token = token_for(limited, "ten", ("eng",))
    fields = {"tools": [TOOL], "metadata": {"user_id": "cut"}}
    said = '[[demo tool=Bash input={"<secret=github>": 1}]]'
    agent = "claude-cli/2.1.197"
    body = encode(prompt(said, stream=True, **fields))
    cut = send(limited, request(body, token=token, agent=agent))
    error = read_events(cut)[-1]["error"]["message"]
    plain = request(encode(prompt(said, **fields)), token=token, agent=agent)
    replies = at_once([partial(send, limited, plain)] * 16)
    assert {read_told(reply) for reply in replies} == {
        Told(status=451, kind="permission_error", code="masking_blocked")
    }
    sentence = error.partition(" [")[0]
    assert {json.loads(r.body)["error"]["message"].partition(" [")[0] for r in replies} == {
        sentence
    }
    ids = {json.loads(reply.body)["request_id"] for reply in replies}
    logs = [(limited.folder / "log" / f"proxy-{n}.log").read_text() for n in (1, 2)]
    assert all(any(exchange_id in log for exchange_id in ids) for log in logs)
