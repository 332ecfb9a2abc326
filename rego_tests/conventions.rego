# METADATA
# title: Conventions
# description: >-
#   What must hold for every policy, asked about the output of `opa inspect -a -f json policies`.
package conventions

# METADATA
# title: A deny rule has a stable code and a sentence
violation contains _at(annotation, "a deny rule needs custom.code and custom.message") if {
	some annotation in _denies
	not _is_reason(annotation.annotations.custom)
}

# METADATA
# title: A code means one thing
violation contains _at(annotation, sprintf("the code %s is used twice", [code])) if {
	some annotation in _denies
	code := annotation.annotations.custom.code
	some other in _denies
	other.location != annotation.location
	other.annotations.custom.code == code
}

# METADATA
# title: Teams only add to what may grow
violation contains _at(annotation, "a team may define deny, approval, recording, limits and masking only") if {
	some annotation in input.annotations
	annotation.path[2].value == "teams"
	name := annotation.path[4].value
	not startswith(name, "_")
	not name in {"deny", "approval", "recording", "limits", "masking", "request_masking", "record_masking"}
}

# METADATA
# title: A policy that the gateway asks has its input checked
violation contains _at(annotation, "a package needs a title, and schemas of its input") if {
	some annotation in input.annotations
	annotation.annotations.scope == "package"
	annotation.path[1].value == "gateway"
	not _is_described(annotation)
}

_denies contains annotation if {
	some annotation in input.annotations
	annotation.path[count(annotation.path) - 1].value in {"deny", "_deny", "_endpoint_deny"}
	annotation.annotations.scope == "rule"
}

_is_reason(custom) if {
	regex.match(`^[a-z][a-z0-9_.]*$`, custom.code)
	custom.message != ""
	object.keys(custom) == {"code", "message"}
}

_is_described(annotation) if {
	annotation.annotations.title
	annotation.annotations.schemas
}

# Packages that read no input.
_is_described(annotation) if {
	annotation.annotations.title
	annotation.path[2].value in {"grants", "lifecycle", "tables", "tokens"}
}

_at(annotation, message) := sprintf("%s:%d: %s", [annotation.location.file, annotation.location.row, message])
