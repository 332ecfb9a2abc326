# METADATA
# title: Recording
# description: >-
#   What is kept of an exchange, and for how long. The org and the teams may raise it: in full,
#   strictly, for the longest of the classes they name. Only the org may lower it.
# schemas:
#   - input: schema.input
package gateway.recording

import data.gateway.config
import data.gateway.org
import data.gateway.settings

# METADATA
# title: What the gateway must do
# description: What is raised wins over what is lowered, which wins over the settings.
obligation := object.union_n([_usual, _lowered, _raised])

_usual := {
	"content": settings.effective.content,
	"durability": settings.effective.durability,
	"retention_class": settings.effective.retention_class,
	"protection": "plain",
	"reasons": {"org.default"},
}

default _lowered := {}

_lowered := {"content": org.lowered_recording.content, "reasons": {org.lowered_recording.code}}

default _raised := {}

_raised := {
	"content": "full",
	"durability": "strict",
	"retention_class": max({[config.retention[name].days, name] | some name in _classes})[1],
	"reasons": {raise.code | some raise in _raises},
} if {
	count(_raises) > 0
}

_classes := {raise.retention_class | some raise in _raises} | {settings.effective.retention_class}

_raises := org.recording | {raise |
	some team in settings.teams
	some raise in data.gateway.teams[team].recording
}
