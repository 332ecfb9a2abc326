package gateway.org

import data.gateway.config

# METADATA
# title: Masked in every response
masking contains name if some name in config.masking

# METADATA
# title: Masked in the responses to some groups
masking contains name if {
	some group in input.principal.groups
	some name in config.groups[group].masking
}
