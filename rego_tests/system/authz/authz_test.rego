package system.authz_test

import data.system.authz

_runtime := {"env": {"COUNTERSIGN_GATEWAY_TOKEN": "gateway", "COUNTERSIGN_OPERATOR_TOKEN": "operator"}}

_asked(identity, method, path) := allowed if {
	question := {"identity": identity, "method": method, "path": split(path, "/")}
	allowed := authz.allow with opa.runtime as _runtime with input as question
}

_both_may := {
	["POST", "v1/data/gateway/decision/main"],
	["POST", "v1/data/gateway/access/main"],
	["POST", "v1/data/gateway/lifecycle/main"],
	["POST", "v1/data/gateway/tables/main"],
	["GET", "v1/status"],
	["GET", "health"],
	["GET", "health/ready"],
}

_operator_may := _both_may | {
	["POST", "v1/data/gateway/config"],
	["GET", "v1/data/gateway/config"],
	["GET", "v1/policies"],
	["GET", "v1/config"],
	["GET", "metrics"],
}

_nobody_may := {
	["PUT", "v1/data/gateway/config"],
	["PATCH", "v1/data/gateway/config"],
	["DELETE", "v1/data/gateway/config"],
	["PUT", "v1/policies/gateway"],
	["DELETE", "v1/policies/gateway"],
	["POST", "v1/query"],
	["GET", "v1/query"],
	["POST", "v1/compile"],
	["POST", ""],
	["POST", "v0/data"],
	["GET", "v0/data"],
	["GET", ""],
}

_all := _operator_may | _nobody_may

test_gateway[name] if {
	some [method, path] in _all
	name := concat(" ", [method, path])
	listed := [method, path] in _both_may
	_asked("gateway", method, path) == listed
}

test_operator[name] if {
	some [method, path] in _all
	name := concat(" ", [method, path])
	listed := [method, path] in _operator_may
	_asked("operator", method, path) == listed
}

test_others_may_nothing[name] if {
	some [method, path] in _all
	some identity in ["", "other", null]
	name := concat(" ", [method, path])
	_asked(identity, method, path) == false
}

test_a_token_that_is_not_set_matches_nobody[name] if {
	some name, runtime in {
		"empty": {"env": {"COUNTERSIGN_GATEWAY_TOKEN": "", "COUNTERSIGN_OPERATOR_TOKEN": ""}},
		"missing": {"env": {}},
		"no environment": {},
	}
	question := {"method": "GET", "path": ["health"]}
	not authz.allow with opa.runtime as runtime with input as question
	not authz.allow with opa.runtime as runtime with input as object.union(question, {"identity": ""})
	not authz.allow with opa.runtime as runtime with input as object.union(question, {"identity": null})
}
