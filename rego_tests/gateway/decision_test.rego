package gateway.decision_test

import data.gateway.decision

_bundles := {"gateway": {"manifest": {"revision": "test"}}}

_decided(question) := json.unmarshal(json.marshal(answer)) if {
	answer := decision.main with input as question with data.system.bundles as _bundles
}

# A case may bring a table of limits; none are shipped.
test_case[name] if {
	some name, tc in data.cases
	answer := _decided(tc.input) with data.gateway.config.limits as object.get(tc, "limits", {})
	answer == tc.expect
}

test_a_case_is_what_its_name_says[name] if {
	some name, tc in data.cases
	startswith(name, concat("", [_outcome(tc.expect), "_"]))
}

_outcome(answer) := "allow" if {
	answer.allow
} else := "deny" if {
	count(answer.deny) > 0
} else := "hold" if {
	answer.approval.required
	not answer.approval.satisfied
}

_ordinary := data.cases.allow_ordinary.input

_needed := {
	"principal", "principal/groups", "principal/person", "principal/token_age_s",
	"request", "request/route", "request/model", "request/mcp_hosts", "request/server_tools",
	"request/sources", "request/repositories", "request/wanted_endpoint",
	"signals", "signals_revision", "endpoints", "locks", "locks_age_s",
}

test_a_missing_fact_is_denied[path] if {
	some path in _needed
	answer := _decided(json.remove(_ordinary, [path]))
	answer.allow == false
	count(answer.deny) > 0
}

test_an_empty_question_is_stale if {
	[reason.code | some reason in _decided({}).deny] == ["signals.stale"]
}

test_a_bundle_without_a_revision_denies if {
	answer := decision.main with input as _ordinary with data.system.bundles as {}
	[reason.code | some reason in answer.deny] == ["signals.stale"]
}

test_locked_and_disputed_settings_are_the_orgs if {
	groups := {"red": {"team": "red", "models": {"claude-sonnet-4-5": true}}, "blue": {"team": "blue"}}
	teams := {
		"red": {"settings": {"endpoint": "red", "durability": "relaxed", "content": "none"}},
		"blue": {"settings": {"endpoint": "blue", "durability": "relaxed"}},
	}
	question := json.patch(_ordinary, [{"op": "replace", "path": "principal/groups", "value": ["red", "blue"]}])
	answer := _decided(question) with data.gateway.config.groups as groups with data.gateway.config.teams as teams
	answer.endpoint == "claude"
	answer.recording.durability == "relaxed"
	answer.recording.content == "full"
}
