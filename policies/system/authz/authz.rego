# METADATA
# title: Who may ask OPA what
# description: >-
#   The gateway may ask its four questions, the operator may read, and nobody may write. Tokens
#   come from OPA's environment; one that is not set matches nobody.
package system.authz

default allow := false

# METADATA
# title: The gateway asks
allow if {
	_is("COUNTERSIGN_GATEWAY_TOKEN")
	input.method == "POST"
	_question
}

# METADATA
# title: The gateway looks after its sidecar
allow if {
	_is("COUNTERSIGN_GATEWAY_TOKEN")
	input.method == "GET"
	_health_or_status
}

# METADATA
# title: The operator reads
allow if {
	_is("COUNTERSIGN_OPERATOR_TOKEN")
	input.method == "GET"
	_readable
}

# METADATA
# title: The operator asks, with an input
allow if {
	_is("COUNTERSIGN_OPERATOR_TOKEN")
	input.method == "POST"
	array.slice(input.path, 0, 2) == ["v1", "data"]
}

_is(name) if {
	input.identity != ""
	input.identity == opa.runtime().env[name]
}

_question if {
	input.path in {
		["v1", "data", "gateway", "decision", "main"],
		["v1", "data", "gateway", "access", "main"],
		["v1", "data", "gateway", "lifecycle", "main"],
		["v1", "data", "gateway", "tables", "main"],
	}
}

_health_or_status if input.path[0] == "health"

_health_or_status if input.path == ["v1", "status"]

_readable if _health_or_status

_readable if input.path == ["metrics"]

_readable if {
	input.path[0] == "v1"
	input.path[1] in {"data", "policies", "config"}
}
