package gateway.approval_test

import data.gateway.approval

_question := data.cases.allow_approved.input

_pending := _question.approval

_satisfied(state) if approval.obligation.satisfied with input as object.union(_question, {"approval": state})

test_approved_by_another_person if _satisfied(_pending)

test_only_a_pending_approval_counts[state] if {
	some state in ["none", "expired"]
	not _satisfied(object.union(_pending, {"state": state}))
}

test_one_person_counts_once if {
	twice := array.concat(_pending.verdicts, [object.union(_pending.verdicts[0], {"sub": "u-bob-admin"})])
	not _two_people(twice)
}

test_two_people_make_a_quorum_of_two if {
	both := array.concat(_pending.verdicts, [object.union(_pending.verdicts[0], {"person": "cid"})])
	_two_people(both)
}

_two_people(verdicts) if {
	_satisfied(object.union(_pending, {"verdicts": verdicts})) with data.gateway.config.settings.quorum as 2
}

test_a_stranger_can_not_deny if {
	stranger := object.union(_pending.verdicts[0], {"verdict": "deny", "groups": ["eng"]})
	state := object.union(_pending, {"verdicts": [stranger]})
	approval.deny == set() with input as object.union(_question, {"approval": state})
}
