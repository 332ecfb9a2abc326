package gateway.tokens_test

import data.gateway.tokens

_token(age) := {"issuer": "https://idp.acme.test", "token_age_s": age}

_short := {"https://idp.acme.test": {"token_max_age_s": 900}}

_long := {"https://idp.acme.test": {"token_max_age_s": 999999}}

test_twelve_hours_for_everyone if {
	tokens.is_fresh(_token(43200))
	not tokens.is_fresh(_token(43201))
}

test_less_for_an_issuer if {
	tokens.is_fresh(_token(900)) with data.gateway.config.issuers as _short
	not tokens.is_fresh(_token(901)) with data.gateway.config.issuers as _short
}

test_an_issuer_gets_no_more_than_everyone if {
	not tokens.is_fresh(_token(43201)) with data.gateway.config.issuers as _long
}

test_another_issuer_is_not_meant if {
	tokens.is_fresh(object.union(_token(901), {"issuer": "https://other.test"})) with data.gateway.config.issuers as _short
}

test_a_limit_that_is_no_number_lets_nothing_through if {
	limits := {"https://idp.acme.test": {"token_max_age_s": null}}
	not tokens.is_fresh(_token(60)) with data.gateway.config.issuers as limits
}

test_no_age_and_no_issuer_are_not_fresh if {
	not tokens.is_fresh({"issuer": "https://idp.acme.test"})
	not tokens.is_fresh({"token_age_s": 60})
}
