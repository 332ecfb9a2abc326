# METADATA
# title: Approval
# description: >-
#   When a request needs a second person, who that may be, and when it has been enough. Each rule
#   that fired makes its own demand, and each demand must be met.
# schemas:
#   - input: schema.input
package gateway.approval

import data.gateway.config
import data.gateway.org
import data.gateway.settings

default obligation := {
	"required": false,
	"satisfied": false,
	"approvers": [],
	"demands": [],
	"granted_by": [],
	"wait_s": 0,
	"ttl_s": 0,
	"scope": "request",
	"reasons": [],
}

# METADATA
# title: What the gateway must do
obligation := {
	"required": true,
	"satisfied": _satisfied,
	"approvers": {group | some demand in _demands; some group in demand.approvers},
	"demands": _demands,
	"granted_by": {voucher.id | some voucher in _vouchers; some demand in _demands; _vouches(voucher, demand, input.principal)},
	"wait_s": settings.effective.wait_s,
	"ttl_s": settings.effective.ttl_s,
	"scope": _scope,
	"reasons": {demand.code | some demand in _demands},
} if {
	_required
}

# METADATA
# title: An approval is required and not there
unsatisfied if {
	_required
	not _satisfied
}

# METADATA
# title: Only a message can wait
# description: A count of tokens and Claude Code's call for a title pass when covered, and ask nobody.
# custom:
#   code: approval.not_for_this_route
#   message: This needs an approval, and only a message can ask for one.
deny contains rego.metadata.rule().custom if {
	unsatisfied
	not _may_wait
}

# METADATA
# title: An approver wants to know why
# custom:
#   code: approval.reason_required
#   message: >-
#     An approver must agree and wants to know why you ask. Send it again with the header
#     x-countersign-reason (Claude Code: ANTHROPIC_CUSTOM_HEADERS="x-countersign-reason: WHY").
deny contains rego.metadata.rule().custom if {
	unsatisfied
	settings.effective.reason_required
	not _reason_given
}

# METADATA
# title: An approver said no
# custom:
#   code: approval.denied
#   message: "An approver denied this: %s"
deny contains {"code": custom.code, "message": sprintf(custom.message, [verdict.comment])} if {
	some demand in _demands
	some verdict in input.approval.verdicts
	verdict.verdict == "deny"
	may_decide(verdict, demand.approvers, input.principal)
	custom := rego.metadata.rule().custom
}

# METADATA
# title: This person may decide about that person's request
# description: Nobody decides their own, whatever their groups and accounts.
may_decide(decider, approvers, owner) if {
	is_someone_else(decider, owner)
	is_approver(decider, approvers)
}

# METADATA
# title: Two different people, both known, under two different accounts
is_someone_else(decider, owner) if {
	owner.person != ""
	decider.person != ""
	decider.person != owner.person
	[decider.issuer, decider.sub] != [owner.issuer, owner.sub]
}

# METADATA
# title: In one of the groups that may approve
is_approver(decider, approvers) if {
	some group in decider.groups
	group in approvers
}

# METADATA
# title: What the verdicts about some demands come to
# description: One denial by somebody who may decide is enough; else each demand must be met.
verdict(demands, verdicts, owner) := "deny" if {
	some demand in demands
	some verdict in verdicts
	verdict.verdict == "deny"
	may_decide(verdict, demand.approvers, owner)
} else := "approve" if {
	count(demands) > 0
	every demand in demands {
		_agreed(demand, verdicts, owner)
	}
} else := "pending"

# Enough people of all the groups, or of each.
_agreed(demand, verdicts, owner) if {
	demand.all_groups == false
	count(_approving(demand.approvers, verdicts, owner)) >= demand.quorum
}

_agreed(demand, verdicts, owner) if {
	demand.all_groups
	count(demand.approvers) > 0
	every group in demand.approvers {
		count(_approving([group], verdicts, owner)) >= demand.quorum
	}
}

# Persons, not accounts, with the groups that they had when they decided.
_approving(approvers, verdicts, owner) := {verdict.person |
	some verdict in verdicts
	verdict.verdict == "approve"
	may_decide(verdict, approvers, owner)
}

_demands := {whole(demand, settings.effective.quorum) | some demand in org.approval} | {whole(demand, settings.effective.quorum) |
	some team in settings.teams
	some demand in data.gateway.teams[team].approval
}

# METADATA
# title: A demand with all its fields
whole(demand, quorum) := object.union({"about": "", "quorum": quorum, "all_groups": false}, demand)

_required if count(_demands) > 0

_may_wait if {
	input.request.route == "messages"
	not _title_call
}

# The shape of the call by which Claude Code names a session, measured.
_title_call if {
	input.request.client.name == "claude-cli"
	input.request.tools == []
	input.request.output_format == "json_schema"
}

_reason_given if input.request.reason.value != ""

# METADATA
# title: What an approval covers
# description: >-
#   A coding agent's session, since each of its turns is another body; a workflow that a service's
#   token claims; else the one request.
default _scope := "request"

_scope := "session" if {
	input.principal.kind == "user"
	input.request.client.name in config.session_clients
	input.request.session.value != ""
}

_scope := "principal" if {
	input.principal.kind == "service"
	_workflow != ""
}

default _workflow := ""

_workflow := input.request.workflow.value if input.request.workflow.source == "claim"

# METADATA
# title: The approvals that may cover this request
# description: The one that it waits for, and what was granted for its session or its workflow.
_vouchers contains input.approval if {
	input.approval.state in {"pending", "approved"}
	_lasting(input.approval)
}

_vouchers contains grant if {
	some grant in input.grants
	grant.scope == "session"
	grant.session != ""
	grant.session == input.request.session.value
	_lasting(grant)
}

_vouchers contains grant if {
	some grant in input.grants
	grant.scope == "principal"
	grant.workflow == _workflow
	_lasting(grant)
}

_lasting(voucher) if time.parse_rfc3339_ns(input.now) < time.parse_rfc3339_ns(voucher.expires_at)

default _satisfied := false

_satisfied if {
	every demand in _demands {
		some voucher in _vouchers
		_vouches(voucher, demand, input.principal)
	}
}

# Approvers were asked the same about the same, and what they said meets what is demanded now.
_vouches(voucher, demand, owner) if {
	some asked in voucher.demands
	[asked.code, asked.about] == [demand.code, demand.about]
	_agreed(demand, voucher.verdicts, owner)
}

# In an emergency nobody is asked before: those may have it whom the repository names, while it does.
_vouches(voucher, demand, owner) if {
	voucher.kind == "emergency"
	some asked in voucher.demands
	[asked.code, asked.about] == [demand.code, demand.about]
	may_take(demand.about, owner.groups)
}

# METADATA
# title: In one of the groups that may take access to a repository in an emergency
may_take(name, groups) if {
	some group in groups
	group in config.repositories[name].emergency
}
