package gateway.org

import data.gateway.config

# METADATA
# title: Masked in every response, and in those to some groups
masking := _masks_named("masking")

# METADATA
# title: Masked in what reaches the model
request_masking := _masks_named("request_masking")

# METADATA
# title: Masked in requests as recorded
# description: Beside what the model does not see; that is never recorded either.
record_masking := _masks_named("record_masking")

_masks_named(direction) := {name | some name in config[direction]} | {name |
	some group in input.principal.groups
	some name in config.groups[group][direction]
}
