"""What an auditor is shown of masking."""

import json

from support.exchanges import detail

from gateway.console.exports.masks import MaskRow, mask_rows, masks_in_force
from lake.shown import Mask

PLACES = (
    "text",
    "tool_input.echo_allow",
    "tool_input.echo_refuse",
    "request.messages",
    "record.body",
)


def test_each_mask_says_its_direction_and_what_became_of_the_value() -> None:
    masks = [Mask(rule="aws", place=place, count=2) for place in PLACES]
    assert mask_rows(detail(masks_applied=masks)) == [
        MaskRow("aws", 2, "to the record", "body", "replaced"),
        MaskRow("aws", 2, "to the model", "messages", "replaced"),
        MaskRow("aws", 2, "to the caller", "text", "replaced"),
        MaskRow("aws", 2, "to the caller", "tool_input", "let pass: the caller's own"),
        MaskRow("aws", 2, "to the caller", "tool_input", "stopped the answer: the caller's own"),
    ]


def test_the_rules_in_force_are_those_of_the_last_decision() -> None:
    masking = {"request": [], "record": ["email"], "response": ["cloud", "keys"], "echo": "mask"}
    decisions = [{"result": {}}, {"result": {"masking": masking}}]
    assert masks_in_force(detail(decisions_json=json.dumps(decisions))) == (
        "to the caller: cloud, keys; to the model: none; to the record: email; echo: mask"
    )
    assert masks_in_force(detail(decisions_json="[]")) == ""
