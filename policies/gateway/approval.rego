# METADATA
# title: Approval
# description: >-
#   When a request needs a second person, who that may be, and when it has been enough. Each rule
#   that fired makes its own demand, and each demand must be met.
# schemas:
#   - input: schema.input
package gateway.approval

import data.gateway.org
import data.gateway.settings

default obligation := {
	"required": false,
	"satisfied": false,
	"approvers": [],
	"quorum": 1,
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
	"quorum": settings.effective.quorum,
	"wait_s": settings.effective.wait_s,
	"ttl_s": settings.effective.ttl_s,
	"scope": "request",
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
# custom:
#   code: approval.not_for_this_route
#   message: This needs an approval, and only a message can ask for one.
deny contains rego.metadata.rule().custom if {
	unsatisfied
	not _may_wait
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

_demands := org.approval | {demand |
	some team in settings.teams
	some demand in data.gateway.teams[team].approval
}

_required if count(_demands) > 0

_may_wait if input.request.route == "messages"

default _satisfied := false

_satisfied if {
	input.approval.state == "pending"
	every demand in _demands {
		count(_approving(demand.approvers)) >= settings.effective.quorum
	}
	time.parse_rfc3339_ns(input.now) < time.parse_rfc3339_ns(input.approval.expires_at)
}

_approving(approvers) := {verdict.person |
	some verdict in input.approval.verdicts
	verdict.verdict == "approve"
	may_decide(verdict, approvers, input.principal)
}
