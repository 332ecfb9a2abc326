"""How the directives in a prompt are read, and what is said about those that cannot be."""

import pytest

from gateway.demo.directives import DIRECTIVES, Steering, SteeringError, steer


def test_every_directive_is_explained() -> None:
    assert list(DIRECTIVES) == [
        "slow=SECONDS", "pace=MS", "fail=STATUS", "break=N", "clean-break=N", "stream-error",
        "garbage", "thinking", "thinking-secret[=KIND]", "tool=NAME", "input={JSON}",
        "tool-secret[=KIND]", "escaped", "result-secret[=KIND]", "citation-secret[=KIND]",
        "secret=KIND", "split=N", "words", "length=N",
    ]  # fmt: skip
    assert all(DIRECTIVES.values())


def test_directives_are_read_and_taken_out_of_the_text() -> None:
    text = (
        'Run [[demo tool=mcp__a__b input={"x": "]] y", "n": [1]} slow=0.5 ]]this '
        "[[demo secret=aws]][[demo secret=email]]now [[demo thinking-secret tool-secret=jwt"
        "\nsplit=3 words length=9 pace=2 fail=529 break=1 clean-break=2 stream-error garbage"
        " thinking]]please"
    )
    assert steer(text) == (
        Steering(
            slow_s=0.5, pace_ms=2, fail=529, break_after=1, clean_break_after=2,
            stream_error=True, garbage=True, thinking=True, thinking_secret="aws",
            tool="mcp__a__b", input={"x": "]] y", "n": [1]}, tool_secret="jwt",
            secrets=("aws", "email"), split=3, words=True, length=9,
        ),
        "Run this now please",
    )  # fmt: skip


def test_a_text_without_directives_steers_nothing() -> None:
    assert steer("a [[b]] [demo fail=500]") == (Steering(), "a [[b]] [demo fail=500]")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        pytest.param("[[demo nonsense]]", "unknown demo directive nonsense; known: slow, pace",
                     id="unknown"),
        pytest.param("[[demo NAME]]", "is not of the form", id="not a name"),
        pytest.param("[[demo fail=500", "is not of the form", id="not closed"),
        pytest.param("[[demo fail]]", "fail: a whole number from 400 to 599", id="no value"),
        pytest.param("[[demo fail=200]]", "from 400 to 599", id="status of success"),
        pytest.param("[[demo slow=nan]]", "a number from 0 to 900", id="not a number"),
        pytest.param("[[demo slow=]]", "could not convert", id="empty value"),
        pytest.param("[[demo split=0]]", "from 1 to", id="no characters"),
        pytest.param("[[demo secret]]", "one of aws, github", id="no kind"),
        pytest.param("[[demo secret=x]]", "one of aws, github", id="unknown kind"),
        pytest.param("[[demo words=2]]", "takes no value", id="value of a flag"),
        pytest.param("[[demo tool]]", "a tool's name", id="no tool"),
        pytest.param("[[demo input=x]]", "a JSON object", id="input not an object"),
        pytest.param("[[demo input={x}]]", "cannot be read", id="input not JSON"),
    ],
)  # fmt: skip
def test_a_directive_that_cannot_be_followed_is_named(text: str, complaint: str) -> None:
    with pytest.raises(SteeringError, match=complaint):
        steer(text)
