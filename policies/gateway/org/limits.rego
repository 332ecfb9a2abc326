package gateway.org

import data.gateway.config

# METADATA
# title: The limits that apply
# description: >-
#   One for each row of the limits table that concerns the call and, where its `per` says so, for
#   each person, group or model. The caller's groups, person and model are the token's and the
#   body's own, so nothing a header says changes what counts.
# custom:
#   code: limits.reached
#   message: The limit "%s" of %d %s in %d s is reached.
limits contains limit if {
	some name, row in config.limits
	not row.unit in _sizes
	_concerns(row, input.principal, input.request)
	custom := rego.metadata.rule().custom
	some group in _groups(row, input.principal)
	limit := {
		"key": json.marshal([name, _person(row, input.principal), group, _counted_model(row, input.request)]),
		"code": custom.code,
		"message": sprintf(custom.message, [name, row.limit, row.unit, row.window_s]),
		"unit": row.unit,
		"limit": row.limit,
		"window_s": row.window_s,
	}
}

# METADATA
# title: The request is larger than a limit allows
# custom:
#   code: limits.size
#   message: The limit "%s" allows a %s of %d at most.
deny contains {"code": custom.code, "message": sprintf(custom.message, [name, row.unit, row.limit])} if {
	some name, row in config.limits
	row.unit in _sizes
	_concerns(row, input.principal, input.request)
	not name in _small_enough
	custom := rego.metadata.rule().custom
}

# METADATA
# title: A row of the limits table can't be read
# description: It might have been a limit, so nobody passes until it is mended.
# custom:
#   code: limits.malformed
#   message: The limit "%s" is written wrongly in the policy. Tell its authors.
deny contains {"code": custom.code, "message": sprintf(custom.message, [name])} if {
	some name, row in config.limits
	not _readable_limit(row)
	custom := rego.metadata.rule().custom
}

_sizes := {"max_tokens", "body_bytes"}

_small_enough contains name if {
	some name, row in config.limits
	input.request[row.unit] <= row.limit
}

_concerns(row, principal, request) if {
	request.route in object.get(row, "routes", ["messages"])
	_concerns_model(row, request)
	_concerns_group(row, principal)
}

_concerns_model(row, _) if not row.models

_concerns_model(row, request) if request.model in row.models

_concerns_group(row, _) if not row.groups

_concerns_group(row, principal) if {
	some group in principal.groups
	group in row.groups
}

_groups(row, principal) := {group |
	some group in principal.groups
	group in object.get(row, "groups", principal.groups)
} if {
	"group" in row.per
} else := {""}

_person(row, principal) := principal.person if {
	"person" in row.per
} else := ""

_counted_model(row, request) := request.model if {
	"model" in row.per
} else := ""

_readable_limit(row) if {
	row.unit in _sizes
	is_number(row.limit)
	object.keys(row) - _filters == {"unit", "limit"}
	_lists(row, _filters)
}

_readable_limit(row) if {
	row.unit in {"requests", "tokens", "concurrent"}
	is_number(row.limit)
	is_number(row.window_s)
	object.keys(row) - _filters == {"unit", "limit", "window_s", "per"}
	_lists(row, _filters | {"per"})
	every dimension in row.per {
		dimension in {"person", "group", "model"}
	}
}

_filters := {"groups", "models", "routes"}

_lists(row, names) if {
	every name in names {
		is_array(object.get(row, name, []))
	}
}
