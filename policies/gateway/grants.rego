# METADATA
# title: Grants
# description: Only groups grant, and groups come from the validated token.
package gateway.grants

import data.gateway.config

# METADATA
# title: Some group grants this
# description: "`kind` is a column of the groups table: models, sources, mcp_hosts, ..."
allow(groups, kind, name) if {
	some group in groups
	config.groups[group][kind][name] == true
}

# METADATA
# title: All that some group grants of this kind
names(groups, kind) := {name |
	some group in groups
	some name, granted in config.groups[group][kind]
	granted == true
}

# METADATA
# title: Some group grants anything of this kind
allow_some(groups, kind) if {
	some group in groups
	true in config.groups[group][kind]
}
