# METADATA
# title: The decision
# description: >-
#   Answers the gateway's one question about a model request. Only merges what the org and the
#   principal's teams say. Every field of the answer is total, and every doubt is a deny.
# schemas:
#   - input: schema.input
package gateway.decision

import data.gateway.approval
import data.gateway.config
import data.gateway.grants
import data.gateway.limits
import data.gateway.org
import data.gateway.recording
import data.gateway.settings

# METADATA
# title: The answer
# description: Allow means forward now; hold is an approval not yet satisfied, and no deny.
# entrypoint: true
main := {
	"schema": 1,
	"allow": _allow,
	"deny": _deny,
	"status": _status,
	"endpoint": _endpoint,
	"models": _models,
	"approval": approval.obligation,
	"recording": recording.obligation,
	"masking": {
		"request": (org.request_masking | _team_masking("request_masking")),
		"record": (org.record_masking | _team_masking("record_masking")),
		"response": (org.masking | _team_masking("masking")),
		"echo": settings.effective.echo,
	},
	"limits": limits.obligation,
}

default _allow := false

_allow if {
	count(_deny) == 0
	not approval.unsatisfied
}

# METADATA
# title: The signals were read with the patterns of another bundle
# description: Stands alone, so that the gateway knows to load the tables and to ask again.
# custom:
#   code: signals.stale
#   message: The policy has just changed. Send the request again.
_deny := {rego.metadata.rule().custom} if not _signals_current

_deny := (((org.deny | approval.deny) | limits.deny) | _team_deny) | _endpoint_deny if _signals_current

_signals_current if input.signals_revision == data.system.bundles.gateway.manifest.revision

_team_deny contains reason if {
	some team in settings.teams
	some reason in data.gateway.teams[team].deny
}

# METADATA
# title: The endpoint for this request is not there
# custom:
#   code: endpoint.unavailable
#   message: No endpoint that may serve this request is available.
_endpoint_deny contains rego.metadata.rule().custom if _endpoint == ""

# METADATA
# title: The caller chooses an endpoint that no group of theirs grants
# description: The choice is a header's word, so it may only narrow what the token's groups grant.
# custom:
#   code: endpoint.not_granted
#   message: None of your groups lets you choose this endpoint.
_endpoint_deny contains rego.metadata.rule().custom if not _endpoint_granted

_endpoint_granted if _any_endpoint

_endpoint_granted if {
	grants.allow(input.principal.groups, "endpoints", input.request.wanted_endpoint.value)
}

_any_endpoint if is_null(input.request.wanted_endpoint)

default _endpoint := ""

_endpoint := _preferred_endpoint if _preferred_endpoint in input.endpoints

_preferred_endpoint := input.request.wanted_endpoint.value if not _any_endpoint

_preferred_endpoint := object.get(config.endpoints, input.request.model, settings.effective.endpoint) if {
	_any_endpoint
}

# METADATA
# title: The models that a list of models may show
# description: Granted to the caller, and nothing would speak against a message to it.
default _models := []

_models := [model |
	some model in grants.names(input.principal.groups, "models")
	_usable(model)
] if {
	input.request.route == "models"
}

_usable(model) if {
	asked := object.union(input.request, {"route": "messages", "model": model})
	count(_deny) == 0 with input.request as asked
}

default _status := 403

# METADATA
# title: Claude Code shows the sentence of a refusal with this status after one request
# description: With 400 and 422 it sends the call five more times; with 403 it speaks of the login.
_status := 451 if input.request.client.name == "claude-cli"

_team_masking(direction) := {name |
	some team in settings.teams
	some name in data.gateway.teams[team][direction]
}
