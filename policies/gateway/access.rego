# METADATA
# title: Access
# description: Who may see, search, replay and export sessions, see approvals, and decide. What is not named is denied.
# schemas:
#   - input: schema.access
package gateway.access

import data.gateway.approval
import data.gateway.grants

# METADATA
# title: The answer
# entrypoint: true
main := {"schema": 1, "allow": count(_deny) == 0, "deny": _deny, "verdict": _verdict}

# METADATA
# title: Not an act that anyone may do
# custom:
#   code: access.unknown_action
#   message: There is no such action.
_deny contains rego.metadata.rule().custom if not _known

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

# Acts on many sessions, and acts on one.
_lists := {"sessions.list", "sessions.search"}

_reads := {"sessions.read", "sessions.replay", "sessions.export"}

_on_approvals := {"approvals.list", "approvals.decide", "approvals.withdraw", "approvals.revoke"}

_known if input.action in ((_lists | _reads) | _on_approvals)

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
