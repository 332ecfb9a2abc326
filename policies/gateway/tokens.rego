# METADATA
# title: Tokens
# description: How old a token may be; the same for model requests and for the control plane.
package gateway.tokens

import data.gateway.config

# METADATA
# title: The principal's token is young enough
# description: For everyone, and for its issuer if the table of issuers says less.
is_fresh(principal) if {
	principal.token_age_s <= config.settings.token_max_age_s
	principal.token_age_s <= _max_age_s(principal.issuer)
}

_max_age_s(issuer) := object.get(
	config.issuers,
	[issuer, "token_max_age_s"],
	config.settings.token_max_age_s,
)
