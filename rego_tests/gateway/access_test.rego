package gateway.access_test

import data.gateway.access

_ann := {
	"issuer": "https://idp.acme.test",
	"sub": "u-ann",
	"person": "ann",
	"kind": "user",
	"groups": ["eng"],
	"claims": {},
	"token_age_s": 60,
}

_auditor := object.union(_ann, {"groups": ["auditors"]})

_lead := object.union(_ann, {"groups": ["shop-leads"]})

_own := {
	"kind": "session",
	"id": "s-1",
	"owner_issuer": "https://idp.acme.test",
	"owner_sub": "u-ann",
	"owner_person": "ann",
}

_bobs := {
	"kind": "session",
	"id": "s-2",
	"owner_issuer": "https://idp.acme.test",
	"owner_sub": "u-bob",
	"owner_person": "bob",
}

_member := object.union(_ann, {"groups": ["eng", "shop"]})

_shop := {"kind": "access", "repository": "acme/Shop", "for_s": "7200"}

_elsewhere := object.union(_own, {"owner_issuer": "https://other.test"})

_cases := {
	"anyone sees who they are": {
		"principal": _ann, "action": "whoami",
		"resource": {"kind": "principal"},
		"deny": set(),
	},
	"not with an old token": {
		"principal": object.union(_ann, {"token_age_s": 43201}), "action": "whoami",
		"resource": {"kind": "principal"},
		"deny": {"access.token_too_old"},
	},
	"anyone lists their own sessions": {
		"principal": _ann, "action": "sessions.list",
		"resource": {"kind": "sessions", "scope": "own"},
		"deny": set(),
	},
	"not all sessions": {
		"principal": _ann, "action": "sessions.list",
		"resource": {"kind": "sessions", "scope": "all"},
		"deny": {"sessions.not_granted"},
	},
	"a list without a scope": {
		"principal": _ann, "action": "sessions.list",
		"resource": {"kind": "sessions"},
		"deny": {"sessions.not_granted"},
	},
	"auditors list all sessions": {
		"principal": _auditor, "action": "sessions.list",
		"resource": {"kind": "sessions", "scope": "all"},
		"deny": set(),
	},
	"anyone reads their own session": {
		"principal": _ann, "action": "sessions.read",
		"resource": _own,
		"deny": set(),
	},
	"not another's session": {
		"principal": _ann, "action": "sessions.read",
		"resource": _bobs,
		"deny": {"sessions.not_granted"},
	},
	"not the same subject of another issuer": {
		"principal": _ann, "action": "sessions.read",
		"resource": _elsewhere,
		"deny": {"sessions.not_granted"},
	},
	"own scope does not read": {
		"principal": _ann, "action": "sessions.read",
		"resource": object.union(_bobs, {"scope": "own"}),
		"deny": {"sessions.not_granted"},
	},
	"auditors read every session": {
		"principal": _auditor, "action": "sessions.read",
		"resource": _bobs,
		"deny": set(),
	},
	"anyone lists their own approvals": {
		"principal": _ann, "action": "approvals.list",
		"resource": {"kind": "approvals", "scope": "own"},
		"deny": set(),
	},
	"not all approvals": {
		"principal": _ann, "action": "approvals.list",
		"resource": {"kind": "approvals", "scope": "all"},
		"deny": {"approvals.not_granted"},
	},
	"approvers list all approvals": {
		"principal": _lead, "action": "approvals.list",
		"resource": {"kind": "approvals", "scope": "all"},
		"deny": set(),
	},
	"approvers decide about others": {
		"principal": _lead, "action": "approvals.decide",
		"resource": _bobs,
		"deny": set(),
	},
	"nobody decides their own": {
		"principal": _lead, "action": "approvals.decide",
		"resource": _own,
		"deny": {"approvals.own_request"},
	},
	"nor where the owner is not known": {
		"principal": _lead, "action": "approvals.decide",
		"resource": {"kind": "approval", "owner_person": ""},
		"deny": {"approvals.own_request"},
	},
	"auditors do not decide": {
		"principal": _auditor, "action": "approvals.decide",
		"resource": _bobs,
		"deny": {"approvals.not_an_approver"},
	},
	"anyone withdraws their own request": {
		"principal": _ann, "action": "approvals.withdraw",
		"resource": _own,
		"deny": set(),
	},
	"nobody withdraws another's": {
		"principal": _lead, "action": "approvals.withdraw",
		"resource": _bobs,
		"deny": {"approvals.not_requester"},
	},
	"anyone ends their own approval": {
		"principal": _ann, "action": "approvals.revoke",
		"resource": _own,
		"deny": set(),
	},
	"approvers end what they decide about": {
		"principal": _lead, "action": "approvals.revoke",
		"resource": _bobs,
		"deny": set(),
	},
	"others do not": {
		"principal": _auditor, "action": "approvals.revoke",
		"resource": _bobs,
		"deny": {"approvals.not_yours"},
	},
	"an owner who is not known is nobody": {
		"principal": object.union(_ann, {"person": ""}), "action": "approvals.withdraw",
		"resource": object.union(_own, {"owner_person": ""}),
		"deny": {"approvals.not_requester"},
	},
	"a member of the owning team asks for access": {
		"principal": _member, "action": "access.request",
		"resource": _shop,
		"deny": set(),
	},
	"nobody asks for another team's": {
		"principal": _ann, "action": "access.request",
		"resource": _shop,
		"deny": {"access.not_owner"},
	},
	"nor for one that is not in production": {
		"principal": _member, "action": "access.request",
		"resource": object.union(_shop, {"repository": "acme/docs"}),
		"deny": {"access.not_owner"},
	},
	"nor for none": {
		"principal": _member, "action": "access.request",
		"resource": {"kind": "access", "for_s": "60"},
		"deny": {"access.not_owner"},
	},
	"nor for longer than policy says": {
		"principal": _member, "action": "access.request",
		"resource": object.union(_shop, {"for_s": "28801"}),
		"deny": {"access.too_long"},
	},
	"nor for no time": {
		"principal": _member, "action": "access.request",
		"resource": object.union(_shop, {"for_s": "0"}),
		"deny": {"access.too_long"},
	},
	"an emergency is for those who are on call": {
		"principal": _member, "action": "access.emergency",
		"resource": _shop,
		"deny": {"access.no_emergency"},
	},
	"who is on call takes it": {
		"principal": object.union(_ann, {"groups": ["shop", "shop-oncall"]}), "action": "access.emergency",
		"resource": _shop,
		"deny": set(),
	},
	"other acts are not known": {
		"principal": _auditor, "action": "sessions.erase",
		"resource": _bobs,
		"deny": {"access.unknown_action"},
	},
}

_readers := {
	"the owner": {"principal": _ann, "resource": _own, "deny": set()},
	"an auditor": {"principal": _auditor, "resource": _bobs, "deny": set()},
	"another": {"principal": _ann, "resource": _bobs, "deny": {"sessions.not_granted"}},
	"an approver": {"principal": _lead, "resource": _bobs, "deny": {"sessions.not_granted"}},
	"the same subject of another issuer": {
		"principal": _ann,
		"resource": _elsewhere,
		"deny": {"sessions.not_granted"},
	},
	"a scope is no ownership": {
		"principal": _ann,
		"resource": object.union(_bobs, {"scope": "own"}),
		"deny": {"sessions.not_granted"},
	},
}

_searchers := {
	"own": {"principal": _ann, "resource": {"kind": "sessions", "scope": "own"}, "deny": set()},
	"all": {
		"principal": _ann,
		"resource": {"kind": "sessions", "scope": "all"},
		"deny": {"sessions.not_granted"},
	},
	"an auditor, all": {
		"principal": _auditor,
		"resource": {"kind": "sessions", "scope": "all"},
		"deny": set(),
	},
	"ownership is no scope": {
		"principal": _ann,
		"resource": _own,
		"deny": {"sessions.not_granted"},
	},
}

test_reading_replaying_exporting[name] if {
	some action in {"sessions.read", "sessions.replay", "sessions.export"}
	some who, tc in _readers
	name := sprintf("%s %s", [action, who])
	_codes(object.union({"action": action}, object.remove(tc, ["deny"]))) == tc.deny
}

test_listing_searching[name] if {
	some action in {"sessions.list", "sessions.search"}
	some who, tc in _searchers
	name := sprintf("%s %s", [action, who])
	_codes(object.union({"action": action}, object.remove(tc, ["deny"]))) == tc.deny
}

test_each_act_is_granted_by_itself if {
	groups := {"exporters": {"access": {"sessions.export": true}}}
	exporter := object.union(_ann, {"groups": ["exporters"]})
	granted := {action |
		some action in {"sessions.read", "sessions.replay", "sessions.export"}
		access.main.allow with input as {"principal": exporter, "action": action, "resource": _bobs}
			with data.gateway.config.groups as groups
	}
	granted == {"sessions.export"}
}

_codes(question) := {reason.code | some reason in denied} if {
	denied := access.main.deny with input as question
}

test_access[name] if {
	some name, tc in _cases
	question := object.union(
		object.remove(tc, ["deny"]),
		{"schema": 1, "now": "2026-01-05T10:00:00Z", "approvers": ["shop-leads"]},
	)
	_codes(question) == tc.deny
	expected := count(tc.deny) == 0
	access.main.allow == expected with input as question
}

_demand := {
	"code": "repositories.production",
	"about": "acme/shop",
	"approvers": ["shop-leads"],
	"quorum": 1,
	"all_groups": false,
}

_said(verdict, who) := object.union(who, {"verdict": verdict, "comment": "x", "at": "2026-01-05T09:59:00Z"})

_settled(verdicts) := verdict if {
	verdict := access.main.verdict with input as {
		"action": "approvals.decide",
		"resource": _bobs,
		"approval": {"demands": [_demand], "verdicts": verdicts},
	}
}

test_what_approvers_are_asked_about_access if {
	access.main.demands == [_demand] with input as {
		"action": "access.request",
		"principal": _member,
		"resource": _shop,
	}
}

test_what_verdicts_come_to if {
	_settled([]) == "pending"
	_settled([_said("approve", _lead)]) == "approve"
	_settled([_said("deny", _lead)]) == "deny"
	_settled([_said("approve", _lead), _said("deny", object.union(_lead, {"person": "cid", "sub": "u-cid"}))]) == "deny"
	_settled([_said("approve", _ann)]) == "pending"
	_settled([_said("approve", object.union(_lead, {"person": "bob"}))]) == "pending"
	_settled([_said("deny", object.union(_lead, {"sub": "u-bob"}))]) == "pending"
}

test_an_empty_question_is_denied if {
	_codes({}) == {"access.unknown_action", "access.token_too_old"}
	access.main.allow == false with input as {}
}

test_a_missing_fact_is_denied[path] if {
	some path in {
		"principal", "principal/person", "principal/groups", "principal/token_age_s",
		"action", "resource", "resource/owner_person", "approvers",
	}
	question := {"principal": _lead, "action": "approvals.decide", "resource": _bobs, "approvers": ["shop-leads"]}
	access.main.allow with input as question
	access.main.allow == false with input as json.remove(question, [path])
}

test_the_answer_has_code_and_sentence if {
	access.main == {
		"schema": 1,
		"allow": false,
		"deny": {{"code": "access.unknown_action", "message": "There is no such action."}},
		"verdict": "",
		"demands": [],
	} with input as {"action": "sessions.erase", "principal": _ann}
}
