# METADATA
# title: Limits
# description: >-
#   Which limits the gateway must keep for this call, and what the call is charged. All that apply
#   are kept; where two rules size the same one differently, the smaller counts.
# schemas:
#   - input: schema.input
package gateway.limits

import data.gateway.config
import data.gateway.org
import data.gateway.settings

# METADATA
# title: What the gateway must do
obligation := {key: object.union(object.remove(limit, ["key"]), charge) |
	some key in {limit.key | some limit in _all}
	limit := min({[limit.limit, limit] | some limit in _all; limit.key == key})[1]
	charge := _charge(limit.unit)
}

# METADATA
# title: More than a limit allows at all
# description: No waiting would help.
# custom:
#   code: limits.too_large
#   message: "This call may use %d %s, and %d is all that is allowed: ask for a smaller max_tokens. %s"
deny contains {"code": custom.code, "message": message} if {
	some limit in obligation
	limit.cost > limit.limit
	custom := rego.metadata.rule().custom
	message := sprintf(custom.message, [limit.cost, limit.unit, limit.limit, limit.message])
}

_all := org.limits | {limit |
	some team in settings.teams
	some limit in data.gateway.teams[team].limits
}

_charge(unit) := {"cost": _estimate, "counts": config.tokens.counted} if {
	unit == "tokens"
} else := {"cost": 1, "counts": []}

# What the prompt and the longest answer may come to; corrected when the answer says what it was.
_estimate := ceil(input.request.prompt_chars / config.tokens.chars_per_token) + input.request.max_tokens
