"""The decision contract: schemas, shared cases and the types of the gateway say the same."""

import json
from pathlib import Path
from typing import Any

import fastjsonschema
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.contract import Answer, Decision, DecisionInput
from gateway.decisions import SUPPORTS, read_answer
from gateway.domain import Failure, Outcome

ROOT = Path(__file__).parents[2]
SCHEMAS = {
    path.stem: fastjsonschema.compile(json.loads(path.read_text()))
    for path in (ROOT / "policies" / "schemas").glob("*.json")
}
CASES: dict[str, dict[str, Any]] = {}
for _path in sorted((ROOT / "rego_tests" / "cases").glob("*.json")):
    CASES |= json.loads(_path.read_text())
REVISION = "test"


def judge(answer: Any, question: DecisionInput, revision: str = REVISION) -> Decision:
    provenance = {"bundles": {"gateway": {"revision": revision}}}
    reply = msgspec.json.encode({"result": answer, "provenance": provenance})
    return read_answer(reply, question, b"{}")


def question_of(case: dict[str, Any]) -> DecisionInput:
    return msgspec.convert(case["input"], DecisionInput)


@pytest.mark.parametrize("name", CASES)
def test_a_case_is_what_schemas_and_types_say(name: str) -> None:
    case = CASES[name]
    SCHEMAS["input"](case["input"])
    SCHEMAS["decision"](case["expect"])
    assert msgspec.json.decode(msgspec.json.encode(question_of(case))) == case["input"]
    answer = msgspec.convert(case["expect"], Answer)
    assert msgspec.json.decode(msgspec.json.encode(answer)) == case["expect"]


@pytest.mark.parametrize("name", CASES)
def test_a_case_comes_to_the_outcome_that_its_name_says(name: str) -> None:
    case = CASES[name]
    assert judge(case["expect"], question_of(case)).outcome == name.partition("_")[0]


ORDINARY = CASES["allow_ordinary"]
QUESTION = question_of(ORDINARY)


def _paths(value: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    items: Any = ()
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    return [path, *(p for key, inner in items for p in _paths(inner, (*path, key)))][
        1 - bool(path) :
    ]


JUNK = st.one_of(
    st.none(), st.booleans(), st.integers(), st.text(max_size=8), st.just([]), st.just({})
)


@given(path=st.sampled_from(_paths(ORDINARY["expect"])), junk=JUNK, drop=st.booleans())
def test_a_damaged_answer_is_a_failure_or_still_of_the_schema(
    path: tuple[str | int, ...], junk: Any, drop: bool
) -> None:
    answer = json.loads(json.dumps(ORDINARY["expect"]))
    holder: Any = answer
    for key in path[:-1]:
        holder = holder[key]
    if drop:
        del holder[path[-1]]
    else:
        holder[path[-1]] = junk
    try:
        decision = judge(answer, QUESTION)
    except Failure as e:
        assert e.code == "policy_unavailable"
        return
    SCHEMAS["decision"](answer)
    if decision.outcome is Outcome.ALLOW:
        assert (answer["allow"], answer["deny"]) == (True, [])


@given(name=st.text(min_size=1, max_size=12))
def test_an_unknown_field_anywhere_is_a_failure(name: str) -> None:
    for holder in ("", "approval", "recording", "masking", "limits"):
        answer = json.loads(json.dumps(ORDINARY["expect"]))
        target = answer[holder] if holder else answer
        if name in target:
            continue
        target[name] = 1
        with pytest.raises(Failure):
            judge(answer, QUESTION)


def changed(**fields: Any) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(json.dumps(ORDINARY["expect"]))
    for name, value in fields.items():
        holder, _, field = name.partition("__")
        if field:
            answer[holder][field] = value
        else:
            answer[holder] = value
    return answer


WAITING = {"approval__required": True, "approval__approvers": ["leads"]}
DEMAND = {"code": "x", "about": "", "approvers": ["leads"], "quorum": 1, "all_groups": False}
REASON = [{"code": "x", "message": "X."}]
LIMIT = {
    "code": "limits.reached",
    "message": "Enough.",
    "unit": "tokens",
    "limit": 5,
    "window_s": 60,
    "cost": 1,
    "counts": ["output_tokens"],
}


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(changed(allow=True, deny=REASON), id="allow with a denial"),
        pytest.param(changed(allow=True, **WAITING), id="allow while approval is missing"),
        pytest.param(changed(allow=False), id="neither allow, deny nor hold"),
        pytest.param(changed(endpoint="elsewhere"), id="an endpoint that is not configured"),
        pytest.param(changed(endpoint=""), id="no endpoint"),
        pytest.param(changed(schema=2), id="another schema"),
        pytest.param(changed(recording__protection="sealed"), id="sealed records"),
        pytest.param(changed(masking__echo="ask"), id="an unknown echo"),
        pytest.param(changed(limits={"max_tokens": 5}), id="a limit that is a number"),
        pytest.param(changed(limits={"a": LIMIT | {"unit": "euros"}}), id="a limit of euros"),
        pytest.param(changed(limits={"a": LIMIT | {"window_s": 0}}), id="a limit in no time"),
        pytest.param(changed(limits={"a": LIMIT | {"limit": -1}}), id="a limit below nothing"),
        pytest.param(changed(limits={"a": LIMIT | {"counts": ["x"]}}), id="an unknown count"),
        pytest.param(
            changed(limits={str(n): LIMIT for n in range(33)}), id="more limits than are kept"
        ),
        pytest.param(
            changed(allow=False, approval__scope="team", **WAITING), id="an unknown scope"
        ),
        pytest.param(
            changed(allow=False, approval__demands=[DEMAND | {"quorum": 0}], **WAITING),
            id="a quorum of nobody",
        ),
    ],
)
def test_a_contradiction_or_an_unsupported_obligation_is_a_failure(answer: dict[str, Any]) -> None:
    with pytest.raises(Failure, match="could not decide"):
        judge(answer, QUESTION)


@pytest.mark.parametrize(
    "reply",
    [
        pytest.param(b"{}", id="undefined"),
        pytest.param(b"", id="empty"),
        pytest.param(b"[]", id="not an object"),
        pytest.param(b'{"result":true}', id="a boolean"),
        pytest.param(
            msgspec.json.encode({"result": ORDINARY["expect"]}), id="without a bundle revision"
        ),
    ],
)
def test_a_reply_without_a_whole_decision_is_a_failure(reply: bytes) -> None:
    with pytest.raises(Failure, match="could not decide"):
        read_answer(reply, QUESTION, b"{}")


def test_an_answer_of_another_revision_than_its_tables_is_a_failure() -> None:
    with pytest.raises(Failure, match="another revision"):
        judge(ORDINARY["expect"], QUESTION, revision="newer")


def test_the_documented_limits_are_those_of_a_case() -> None:
    guide = (ROOT / "docs" / "policies.md").read_text()
    block = guide.partition("<!-- limits -->\n```json\n")[2].partition("```")[0]
    rows = CASES["allow_limited"]["limits"]
    documented = json.loads(block)
    assert documented == {name: rows[name] for name in documented}


def test_supports_lists_nothing_that_a_later_version_brings() -> None:
    assert SUPPORTS == (
        "approval.required=true",
        "approval.scope=principal",
        "approval.scope=request",
        "approval.scope=session",
        "limits.unit=concurrent",
        "limits.unit=requests",
        "limits.unit=tokens",
        "masking.echo=allow",
        "masking.echo=mask",
        "masking.record",
        "masking.request",
        "masking.response",
        "models",
        "recording.content=metadata",
        "recording.content=none",
        "recording.durability=relaxed",
    )
