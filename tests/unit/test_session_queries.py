"""What a query asks for: filters, times and cursors."""

import base64
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.console.queries import FILTERS, read_filter, read_question, read_time
from gateway.domain import Refusal
from lake.filters import CONDITIONS, SENTENCES, Filter, condition_of
from lake.shown import ExchangeKey, Owner, SessionKey

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
KEY = ExchangeKey(NOW - timedelta(hours=1), "exch_1")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("90s", NOW - timedelta(seconds=90), id="seconds ago"),
        pytest.param("15m", NOW - timedelta(minutes=15), id="minutes ago"),
        pytest.param("2h", NOW - timedelta(hours=2), id="hours ago"),
        pytest.param("3d", NOW - timedelta(days=3), id="days ago"),
        pytest.param("1w", NOW - timedelta(weeks=1), id="weeks ago"),
        pytest.param("2026-02-01T00:00:00Z", datetime(2026, 2, 1, tzinfo=UTC), id="UTC"),
        pytest.param(
            "2026-02-01T01:00:00+01:00", datetime(2026, 2, 1, tzinfo=UTC), id="another zone"
        ),
    ],
)
def test_a_time_is_so_long_ago_or_rfc_3339(text: str, expected: datetime) -> None:
    assert read_time(text, NOW) == expected


@pytest.mark.parametrize(
    "text",
    ["", "2", "h", "-2h", "2 h", "2y", "1.5h", "999999h", "٢h", "2026-02-01T00:00:00", "today"],
)
def test_any_other_time_is_refused(text: str) -> None:
    with pytest.raises(Refusal):
        read_time(text, NOW)


def test_every_field_of_a_filter_has_a_condition_a_sentence_and_a_parameter() -> None:
    names = list(Filter.__struct_fields__)
    assert names == list(CONDITIONS)
    assert names == list(SENTENCES)
    assert names == [each.name for each in FILTERS]


def test_no_value_of_a_filter_stands_in_the_condition() -> None:
    hostile = "'; DROP TABLE exchanges; --"
    texts = dict.fromkeys(CONDITIONS, hostile) | {"since": "1h", "until": "1m"}
    wanted = read_filter(texts, NOW)
    condition = condition_of(wanted, Owner(hostile, hostile))
    assert hostile not in condition.sql
    assert condition.sql.count("?") == len(condition.values)


def test_an_empty_filter_asks_for_nothing() -> None:
    assert condition_of(Filter()) == ("true", [])


@pytest.mark.parametrize(
    "texts",
    [
        pytest.param({"person": ""}, id="an empty value"),
        pytest.param({"text": "x" * 1001}, id="a value without end"),
        pytest.param({"since": "yesterday"}, id="a time that is none"),
    ],
)
def test_a_filter_that_cannot_be_read_is_refused(texts: dict[str, str]) -> None:
    with pytest.raises(Refusal):
        read_filter(texts, NOW)


def test_a_cursor_leads_on_with_the_time_of_the_first_page() -> None:
    asked = {"since": "2h", "text": "deploy", "limit": "5"}
    first = read_question("sessions.search", asked, NOW)
    later = NOW + timedelta(minutes=30)
    second = read_question("sessions.search", {**asked, "after": first.next(KEY)}, later)
    assert second.after(ExchangeKey) == KEY
    assert second.wanted == first.wanted
    assert second.wanted.since == NOW - timedelta(hours=2)


@pytest.mark.parametrize(
    ("subject", "asked"),
    [
        pytest.param("sessions.search", {}, id="without the filter"),
        pytest.param("sessions.search", {"person": "bo"}, id="of another filter"),
        pytest.param("sessions.search", {"person": "ann", "scope": "all"}, id="of more people"),
        pytest.param("sessions.list", {"person": "ann"}, id="of another list"),
    ],
)
def test_a_cursor_of_another_question_is_refused(subject: str, asked: dict[str, str]) -> None:
    cursor = read_question("sessions.search", {"person": "ann"}, NOW).next(KEY)
    with pytest.raises(Refusal):
        read_question(subject, {**asked, "after": cursor}, NOW)


def test_a_key_of_another_form_is_refused() -> None:
    question = read_question("sessions.search", {}, NOW)
    again = read_question("sessions.search", {"after": question.next(KEY)}, NOW)
    with pytest.raises(Refusal):
        again.after(SessionKey)


@given(st.text() | st.binary().map(lambda raw: base64.urlsafe_b64encode(raw).decode()))
def test_whatever_is_no_cursor_is_refused(text: str) -> None:
    if text:
        with pytest.raises(Refusal):
            read_question("sessions.search", {"after": text}, NOW)


def test_an_audit_event_has_the_filter_but_not_the_text_that_was_sought() -> None:
    question = read_question("sessions.search", {"text": "hunter2", "person": "ann"}, NOW)
    assert question.described() == {"text": "7 characters", "person": "ann"}
    assert "hunter2" not in base64.urlsafe_b64decode(question.next(KEY)).decode()
    assert msgspec.json.decode(base64.urlsafe_b64decode(question.next(KEY)))["of"]
