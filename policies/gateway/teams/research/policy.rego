# METADATA
# title: Research
# description: The largest model is for people; nothing else differs from the org.
# schemas:
#   - input: schema.input
package gateway.teams.research

# METADATA
# title: The largest model is for people
# custom:
#   code: research.people_only
#   message: Only people may use this model.
deny contains rego.metadata.rule().custom if {
	input.request.model == "claude-mythos-1"
	not _person
}

_person if input.principal.kind == "user"
