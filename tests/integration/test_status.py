"""`countersign status` over a real deployment: when it works, limps and is gone."""

import json
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from evasions.calls import encode, prompt, request, send, token_for
from support.deployment import Deployment, running


def status(deployment: Deployment) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(deployment.run("status", "--json", check=False))
    return found


def wait_for_problem(deployment: Deployment, words: str) -> list[str]:
    until = time.monotonic() + 30
    while True:
        problems = [str(problem) for problem in status(deployment)["problems"]]
        if any(words in problem for problem in problems):
            return problems
        assert time.monotonic() < until, problems


def test_status_says_how_it_is_and_what_to_do(tmp_path: Path) -> None:
    folder = tmp_path / "var"
    with running(folder) as deployment:
        call = request(encode(prompt()), token=token_for(deployment), agent="status/one")
        assert send(deployment, call).status == 200
        deployment.wait_for("select 1 from exchanges where user_agent = 'status/one'")
        shown = deployment.run("status")
        found = status(deployment)
        opa = psutil.Process(deployment.processes["opa"].pid)
        opa.suspend()
        with pytest.raises(AssertionError):
            deployment.run("status")
        without_opa = status(deployment)
        opa.resume()
        deployment.run("status")
        (folder / "catalog.db").rename(folder / "catalog.away")
        (folder / "catalog.db").mkdir()
        assert send(deployment, call).status == 200
        failing = wait_for_problem(deployment, "the recorder failed")
        (folder / "catalog.db").rmdir()
        (folder / "catalog.away").rename(folder / "catalog.db")
        deployment.wait_for("select 1 from exchanges where user_agent = 'status/one'", 2, 40)
        deployment.run("status")
    gone = status(deployment)

    assert shown.splitlines()[-1] == "Everything works."
    assert (found["ok"], found["problems"]) == (True, [])
    names = {process["name"] for process in found["processes"]["processes"]}
    assert names >= {"demo", "relay", "opa", "recorder", "console", "proxy-1"}
    writers = {journal["journal_id"].partition("_")[0] for journal in found["journals"]}
    assert writers == {"supervisor", "proxy", "console", "recorder"}
    assert f"revision {found['policy']['revision']}" in shown
    assert found["recorder"]["state"]["last_commit_ns"] > 0
    assert found["free_bytes"] > found["floor_bytes"] > 0
    assert without_opa["problems"] == [
        "OPA can't be reached; is the deployment running?: "
        f"read {folder}/log/relay.log and {folder}/log/opa.log"
    ]
    assert len(failing) == 1
    assert gone["problems"] == [f"no `countersign up` runs in {folder}: start it"]
