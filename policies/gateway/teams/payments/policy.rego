# METADATA
# title: Payments
# description: Card data is near, so everything is kept and e-mail addresses are masked.
# schemas:
#   - input: schema.input
package gateway.teams.payments

# METADATA
# title: No tools that run on the model's side
# custom:
#   code: payments.server_tools
#   message: The payments team does not use server tools.
deny contains rego.metadata.rule().custom if not _no_server_tools

# METADATA
# title: MCP servers only with a second person
# custom:
#   code: payments.mcp
approval contains demand if {
	some host in _mcp_hosts
	demand := {"code": rego.metadata.rule().custom.code, "about": host, "approvers": ["payments-leads"]}
}

# METADATA
# title: Everything is kept for as long as work on production
# custom:
#   code: payments.kept
recording contains {"code": rego.metadata.rule().custom.code, "retention_class": "production"}

# METADATA
# title: E-mail addresses are masked
masking contains "email"

_no_server_tools if input.request.server_tools == []

# What can't be read is asked for too.
default _mcp_hosts := ["unknown"]

_mcp_hosts := input.request.mcp_hosts
