package gateway.approval_test

import data.gateway.approval

_question := data.cases.allow_approved.input

_pending := _question.approval

_satisfied(state) if approval.obligation.satisfied with input as object.union(_question, {"approval": state})

test_approved_by_another_person if _satisfied(_pending)

test_only_a_pending_or_approved_one_counts[state] if {
	some state in ["none", "denied", "expired", "withdrawn", "used", "revoked"]
	not _satisfied(object.union(_pending, {"state": state}))
}

test_an_approved_one_counts_until_it_ends if {
	approved := object.union(_pending, {"state": "approved"})
	_satisfied(approved)
	not _satisfied(object.union(approved, {"expires_at": _question.now}))
}

test_one_about_something_else_does_not_count[name] if {
	some name, change in {
		"of another rule": {"code": "payments.mcp"},
		"about another repository": {"about": "acme/ledger"},
	}
	asked := object.union(_pending.demands[0], change)
	not _satisfied(object.union(_pending, {"demands": [asked]}))
}

_by(person) := object.union(_pending.verdicts[0], {"person": person, "sub": sprintf("u-%s", [person])})

test_one_person_counts_once if {
	twice := array.concat(_pending.verdicts, [object.union(_pending.verdicts[0], {"sub": "u-bob-admin"})])
	not _two_people(twice)
}

test_two_people_make_a_quorum_of_two if {
	_two_people([_by("bob"), _by("cid")])
	not _two_people([_by("bob"), _by("ann")])
}

_two_people(verdicts) if {
	_satisfied(object.union(_pending, {"verdicts": verdicts})) with data.gateway.config.settings.quorum as 2
}

test_a_repository_sets_its_own_quorum if {
	repository := object.union(data.gateway.config.repositories["acme/shop"], {"quorum": 2})
	not _satisfied(_pending) with data.gateway.config.repositories as {"acme/shop": repository}
}

_both := {"acme/shop": object.union(
	data.gateway.config.repositories["acme/shop"],
	{"approvers": ["shop-leads", "security"], "all_groups": true},
)}

test_all_groups_must_agree if {
	guard := object.union(_by("cid"), {"groups": ["security"]})
	either := object.union(_pending, {"verdicts": [_by("bob"), _by("eve")]})
	not _satisfied(either) with data.gateway.config.repositories as _both
	_satisfied(object.union(_pending, {"verdicts": [_by("bob"), guard]})) with data.gateway.config.repositories as _both
}

test_no_groups_is_no_agreement if {
	approval.verdict([{"all_groups": true, "approvers": [], "quorum": 1}], [], _question.principal) == "pending"
	approval.verdict([], [], _question.principal) == "pending"
}

test_who_lost_the_group_does_not_count if {
	not _satisfied(object.union(_pending, {"verdicts": [object.union(_by("bob"), {"groups": ["eng"]})]}))
}

test_a_stranger_can_not_deny if {
	stranger := object.union(_pending.verdicts[0], {"verdict": "deny", "groups": ["eng"]})
	state := object.union(_pending, {"verdicts": [stranger]})
	approval.deny == set() with input as object.union(_question, {"approval": state})
}

# --- what a grant covers

_grant := object.union(_pending, {"state": "approved", "scope": "session", "session": "s-1"})

_none := {
	"state": "none", "id": null, "kind": "call", "scope": "request", "session": "", "workflow": "",
	"expires_at": "", "demands": [], "verdicts": [],
}

_granted(grant, request) if {
	approval.obligation.satisfied with input as object.union(
		_question,
		{"approval": _none, "grants": [grant], "request": request},
	)
}

test_a_grant_covers_its_session if {
	_granted(_grant, {})
	approval.obligation.granted_by == {"a-1"} with input as object.union(
		_question,
		{"approval": _none, "grants": [_grant]},
	)
}

test_a_grant_covers_nothing_else[name] if {
	some name, tc in {
		"another session": [{}, {"session": {"value": "s-2", "source": "header"}}],
		"no session": [{}, {"session": null}],
		"a grant without a session": [{"session": ""}, {"session": {"value": "", "source": "header"}}],
		"an ended grant": [{"expires_at": _question.now}, {}],
		"another scope": [{"scope": "request"}, {}],
		"another repository": [{"demands": [object.union(_pending.demands[0], {"about": "acme/ledger"})]}, {}],
		"nobody's word": [{"verdicts": []}, {}],
	}
	not _granted(object.union(_grant, tc[0]), tc[1])
}

_nightly := {"value": "nightly", "source": "claim"}

_for_workflow := object.union(_grant, {"scope": "principal", "session": "", "workflow": "nightly"})

test_a_grant_for_a_workflow_needs_the_claim if {
	_granted(_for_workflow, {"workflow": _nightly})
	not _granted(_for_workflow, {"workflow": object.union(_nightly, {"source": "header"})})
	not _granted(_for_workflow, {"workflow": null})
	not _granted(_for_workflow, {"workflow": object.union(_nightly, {"value": "other"})})
	_granted(object.union(_for_workflow, {"workflow": ""}), {"workflow": null})
}

_taken := object.union(_for_workflow, {"workflow": "", "kind": "emergency", "verdicts": []})

_oncall := {"principal": {"groups": ["eng", "shop", "shop-oncall"]}}

test_an_emergency_needs_nobody_but_the_group if {
	question := object.union(_question, {"approval": _none, "grants": [_taken]})
	approval.obligation.satisfied with input as object.union(question, _oncall)
	not approval.obligation.satisfied with input as question
	elsewhere := object.union(_pending.demands[0], {"about": "acme/ledger"})
	other := object.union(question, {"grants": [object.union(_taken, {"demands": [elsewhere]})]})
	not approval.obligation.satisfied with input as object.union(other, _oncall)
}

# --- what is asked for

_asked(change) := scope if {
	scope := approval.obligation.scope with input as object.union(_question, change)
}

test_what_an_approval_covers if {
	_asked({}) == "session"
	_asked({"request": {"session": null}}) == "request"
	_asked({"request": {"client": null}}) == "request"
	_asked({"principal": {"kind": "service"}, "request": {"workflow": _nightly}}) == "principal"
	_asked({
		"principal": {"kind": "service"},
		"request": {"workflow": object.union(_nightly, {"source": "header"})},
	}) == "request"
}

_denials(change) := {reason.code | some reason in denied} if {
	denied := approval.deny with input as object.union(_question, change)
}

_title := {"request": {"tools": [], "output_format": "json_schema"}, "approval": _none}

test_what_asks_nobody if {
	_denials(_title) == {"approval.not_for_this_route"}
	_denials(object.union(_title, {"grants": [_grant]})) == set()
	_denials(object.union(_title, {"request": {"tools": ["Bash"], "output_format": "json_schema"}})) == set()
	_denials({"request": {"route": "count_tokens"}, "approval": _none}) == {"approval.not_for_this_route"}
	_denials({"request": {"route": "count_tokens"}, "approval": _none, "grants": [_grant]}) == set()
}

test_a_reason_where_it_is_required if {
	why := {"request": {"reason": {"value": "ticket 7", "source": "header"}}, "approval": _none}
	asked := {"reason_required": true}
	settings := object.union(data.gateway.config.settings, asked)
	_denials({"approval": _none}) == {"approval.reason_required"} with data.gateway.config.settings as settings
	_denials(why) == set() with data.gateway.config.settings as settings
	_denials({}) == set() with data.gateway.config.settings as settings
}
