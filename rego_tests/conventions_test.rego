package conventions_test

import data.conventions

_rule(row, path, annotations) := {
	"annotations": object.union({"scope": "rule"}, annotations),
	"location": {"file": "a.rego", "row": row},
	"path": [{"value": part} | some part in split(path, ".")],
}

_good := _rule(1, "data.gateway.org.deny", {"custom": {"code": "a.b", "message": "No."}})

_cases := {
	"a good rule": {"rules": [_good], "violation": set()},
	"no message": {
		"rules": [_rule(2, "data.gateway.org.deny", {"custom": {"code": "a.b"}})],
		"violation": {"a.rego:2: a deny rule needs custom.code and custom.message"},
	},
	"a code twice": {
		"rules": [_good, _rule(2, "data.gateway.access._deny", {"custom": {"code": "a.b", "message": "Not."}})],
		"violation": {"a.rego:1: the code a.b is used twice", "a.rego:2: the code a.b is used twice"},
	},
	"a team that defines its own": {
		"rules": [_rule(2, "data.gateway.teams.red.grant", {}), _rule(3, "data.gateway.teams.red.masking", {})],
		"violation": {"a.rego:2: a team may define deny, approval, recording, limits and masking only"},
	},
	"a package without schemas": {
		"rules": [_rule(2, "data.gateway.org", {"scope": "package", "title": "The floor"})],
		"violation": {"a.rego:2: a package needs a title, and schemas of its input"},
	},
	"packages with schemas, and one that reads no input": {
		"rules": [
			_rule(2, "data.gateway.org", {"scope": "package", "title": "The floor", "schemas": []}),
			_rule(3, "data.gateway.tables", {"scope": "package", "title": "Tables"}),
		],
		"violation": set(),
	},
}

test_conventions[name] if {
	some name, tc in _cases
	conventions.violation == tc.violation with input as {"annotations": tc.rules}
}
