# METADATA
# title: Access
# description: Who may see, search, replay and export sessions, see approvals, and decide. What is not named is denied.
# schemas:
#   - input: schema.access
package gateway.access

import data.gateway.approval
import data.gateway.config
import data.gateway.grants
import data.gateway.org
import data.gateway.tokens

# METADATA
# title: The answer
# entrypoint: true
main := {"schema": 1, "allow": count(_deny) == 0, "deny": _deny, "verdict": _verdict, "demands": _demands}

# METADATA
# title: Not an act that anyone may do
# custom:
#   code: access.unknown_action
#   message: There is no such action.
_deny contains rego.metadata.rule().custom if not _known

# METADATA
# title: The token is too old
# custom:
#   code: access.token_too_old
#   message: Your token is too old. Log in again.
_deny contains rego.metadata.rule().custom if not _token_fresh

# METADATA
# title: Not the caller's own sessions
# custom:
#   code: sessions.not_granted
#   message: You may see your own sessions only.
_deny contains rego.metadata.rule().custom if {
	input.action in (_lists | _reads)
	not _own
	not _granted
}

# METADATA
# title: Not the caller's own approvals
# custom:
#   code: approvals.not_granted
#   message: You may see your own approvals only.
_deny contains rego.metadata.rule().custom if {
	input.action == "approvals.list"
	not _own
	not _granted
}

# METADATA
# title: Not one of the approvers
# custom:
#   code: approvals.not_an_approver
#   message: None of your groups may decide about this request.
_deny contains rego.metadata.rule().custom if {
	input.action == "approvals.decide"
	not _approver
}

# METADATA
# title: The caller's own request
# custom:
#   code: approvals.own_request
#   message: Nobody decides about their own request.
_deny contains rego.metadata.rule().custom if {
	input.action == "approvals.decide"
	not _someone_else
}

# METADATA
# title: Neither the caller's own request nor theirs to decide
# custom:
#   code: approvals.not_yours
#   message: You may end your own approvals, and those that one of your groups decides about.
_deny contains rego.metadata.rule().custom if {
	input.action == "approvals.revoke"
	not _approver
	not _requester
}

# METADATA
# title: Another person's request
# custom:
#   code: approvals.not_requester
#   message: Only who asked may withdraw a request.
_deny contains rego.metadata.rule().custom if {
	input.action == "approvals.withdraw"
	not _requester
}

# METADATA
# title: What the verdicts of the approval come to
# description: Asked anew after each verdict; who asked has no part in it.
default _verdict := ""

_verdict := approval.verdict(input.approval.demands, input.approval.verdicts, _owner)

# METADATA
# title: Not a production repository of the caller's team
# custom:
#   code: access.not_owner
#   message: You may ask for access to the production repositories of your own team.
_deny contains rego.metadata.rule().custom if {
	input.action in _access_acts
	not _own_production
}

# METADATA
# title: Longer than access may be asked for
# custom:
#   code: access.too_long
#   message: "Access may be asked for up to %d seconds."
_deny contains {"code": custom.code, "message": sprintf(custom.message, [config.settings.access_max_s])} if {
	input.action in _access_acts
	not _short_enough
	custom := rego.metadata.rule().custom
}

# METADATA
# title: Emergency access is not the caller's to take
# custom:
#   code: access.no_emergency
#   message: None of your groups may take access to this repository in an emergency.
_deny contains rego.metadata.rule().custom if {
	input.action == "access.emergency"
	not approval.may_take(_repository, input.principal.groups)
}

# METADATA
# title: What approvers are asked about the access
default _demands := []

_demands := [approval.whole(demand, config.settings.quorum)] if {
	input.action in _access_acts
	demand := org.production_demand(_repository, "repositories.production")
}

default _repository := ""

_repository := lower(input.resource.repository)

_own_production if {
	config.repositories[_repository].production
	config.repositories[_repository].owners in input.principal.groups
}

_short_enough if {
	seconds := to_number(input.resource.for_s)
	seconds > 0
	seconds <= config.settings.access_max_s
}

_access_acts := {"access.request", "access.emergency"}

# Acts on many sessions, and acts on one.
_lists := {"sessions.list", "sessions.search"}

_reads := {"sessions.read", "sessions.replay", "sessions.export"}

_on_approvals := {"approvals.list", "approvals.decide", "approvals.withdraw", "approvals.revoke"}

_known if input.action in ((_lists | _reads) | ((_on_approvals | _access_acts) | {"whoami"}))

_token_fresh if tokens.is_fresh(input.principal)

_approver if approval.is_approver(input.principal, input.approvers)

_someone_else if approval.is_someone_else(input.principal, _owner)

_requester if {
	input.resource.owner_person != ""
	input.resource.owner_person == input.principal.person
}

_owner := {
	"person": input.resource.owner_person,
	"issuer": input.resource.owner_issuer,
	"sub": input.resource.owner_sub,
}

_granted if grants.allow(input.principal.groups, "access", input.action)

_own if {
	input.action in (_lists | {"approvals.list"})
	input.resource.scope == "own"
}

_own if {
	input.action in _reads
	input.resource.owner_issuer == input.principal.issuer
	input.resource.owner_sub == input.principal.sub
}
