package gateway.limits_test

import data.gateway.config
import data.gateway.limits
import data.gateway.org

_question := data.cases.allow_ordinary.input

_row := {"per": ["group"], "unit": "requests", "limit": 5, "window_s": 60}

_keys(table, question) := object.keys(obligation) if {
	obligation := limits.obligation with data.gateway.config.limits as table with input as question
}

_asked(changes) := json.patch(_question, changes)

test_nothing_is_limited_as_shipped if {
	config.limits == {}
	limits.obligation == {} with input as _question
}

test_every_group_of_the_caller_counts if {
	question := _asked([{"op": "replace", "path": "principal/groups", "value": ["eng", "ops", "qa"]}])
	_keys({"a": object.union(_row, {"groups": ["eng", "ops"]})}, question) == {
		`["a","","eng",""]`,
		`["a","","ops",""]`,
	}
	count(_keys({"a": _row}, question)) == 3
}

test_a_name_of_a_person_is_no_name_of_a_group if {
	question := _asked([{"op": "replace", "path": "principal/person", "value": `eng","`}])
	_keys({"a": object.union(_row, {"per": ["person"]})}, question) == {`["a","eng\",\"","",""]`}
}

test_what_a_header_says_changes_no_key[name] if {
	table := {"a": object.union(_row, {"per": ["person", "group", "model"]})}
	some name, change in {
		"session": {"op": "replace", "path": "request/session", "value": {"value": "other", "source": "header"}},
		"agent": {"op": "replace", "path": "request/agent", "value": {"value": "other", "source": "header"}},
		"client": {"op": "replace", "path": "request/client", "value": {"name": "x", "version": "1", "source": "header"}},
		"workflow": {"op": "replace", "path": "request/workflow", "value": {"value": "nightly-eval", "source": "header"}},
		"streaming": {"op": "replace", "path": "request/stream", "value": false},
	}
	_keys(table, _asked([change])) == _keys(table, _question)
}

test_a_team_adds_limits_and_the_smaller_counts if {
	groups := {"red": {"team": "red"}, "blue": {"team": "blue"}}
	limit := {
		"key": "both", "code": "red.calls", "message": "Enough.",
		"unit": "requests", "limit": 9, "window_s": 60,
	}
	teams := {"red": {"limits": {limit}}, "blue": {"limits": {object.union(limit, {"limit": 3})}}}
	question := _asked([{"op": "replace", "path": "principal/groups", "value": ["red", "blue"]}])
	answer := limits.obligation with input as question with data.gateway.config.groups as groups
		with data.gateway.teams as teams
	answer.both == {
		"code": "red.calls", "message": "Enough.", "unit": "requests",
		"limit": 3, "window_s": 60, "cost": 1, "counts": [],
	}
}

_malformed := {
	"no unit": object.remove(_row, ["unit"]),
	"another unit": object.union(_row, {"unit": "euros"}),
	"a limit that is no number": object.union(_row, {"limit": "5"}),
	"no window": object.remove(_row, ["window_s"]),
	"nothing about whom": object.remove(_row, ["per"]),
	"a word for whom": object.union(_row, {"per": "group"}),
	"an unknown dimension": object.union(_row, {"per": ["host"]}),
	"groups that are no list": object.union(_row, {"groups": "eng"}),
	"a misspelt filter": object.union(_row, {"model": ["x"]}),
	"a size with a window": {"unit": "max_tokens", "limit": 5, "window_s": 60},
	"a size without a limit": {"unit": "body_bytes"},
}

test_a_malformed_row_denies[name] if {
	some name, row in _malformed
	codes := {reason.code | some reason in org.deny} with input as _question
		with data.gateway.config.limits as {"a": row}
	"limits.malformed" in codes
}

test_every_shipped_row_is_readable if {
	codes := {reason.code | some reason in org.deny} with input as _question
	not "limits.malformed" in codes
}
