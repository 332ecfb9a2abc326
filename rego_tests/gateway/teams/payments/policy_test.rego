package gateway.teams.payments_test

import data.gateway.teams.payments

test_defines_only_what_a_team_may if {
	public := {name | some name in object.keys(payments); not startswith(name, "_")} with input as {}
	public == {"deny", "approval", "recording", "masking"}
}

test_plain_requests_need_nothing if {
	payments.deny == set() with input as {"request": {"server_tools": [], "mcp_hosts": []}}
	payments.approval == set() with input as {"request": {"server_tools": [], "mcp_hosts": []}}
}

test_a_missing_fact_tightens if {
	{reason.code | some reason in payments.deny} == {"payments.server_tools"} with input as {}
	{demand.code | some demand in payments.approval} == {"payments.mcp"} with input as {}
}
