package gateway.teams.research_test

import data.gateway.teams.research

test_the_largest_model_is_for_people if {
	research.deny == {_people_only} with input as _question("service", "claude-mythos-1")
	research.deny == set() with input as _question("user", "claude-mythos-1")
	research.deny == set() with input as _question("service", "claude-sonnet-4-5")
}

_people_only := {"code": "research.people_only", "message": "Only people may use this model."}

_question(kind, model) := {"request": {"model": model}, "principal": {"kind": kind}}
