# METADATA
# title: Teams and settings
# description: Which teams a principal is in, and what they may set differently from the org.
# schemas:
#   - input: schema.input
package gateway.settings

import data.gateway.config

# METADATA
# title: The principal's teams
teams contains config.groups[group].team if some group in input.principal.groups

# METADATA
# title: The settings that apply
# description: The org's, except where the principal's teams agree and the org left it open.
effective := object.union(config.settings, _agreed)

_agreed[name] := value if {
	some team in teams
	some name, value in config.teams[team].settings
	not config.locked[name]
	not _disputed[name]
}

_disputed contains name if {
	some team in teams
	some name, value in config.teams[team].settings
	some other in teams
	config.teams[other].settings[name] != value
}
