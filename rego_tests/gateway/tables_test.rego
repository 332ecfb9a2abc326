package gateway.tables_test

import data.gateway.tables

test_a_topic_lists_its_masks if {
	tables.main.topics.keys == ["age_secret_key", "connection_string", "jwt", "pgp_private_key", "private_key"]
}

test_every_mask_belongs_to_one_topic if {
	named := [name | some names in tables.main.topics; some name in names]
	sort(named) == sort(object.keys(tables.main.masks))
}

test_a_topic_is_no_mask if {
	object.keys(tables.main.topics) & object.keys(tables.main.masks) == set()
}

_patterns := {name: mask | some name, mask in tables.main.masks; mask.pattern}

test_a_mask_can_not_match_its_own_replacement[name] if {
	some name, mask in _patterns
	replaced := replace(replace(mask.replace, "{rule}", name), "{tag}", "0123abcd")
	not regex.match(mask.pattern, replaced)
}

_remotes := {
	"git@github.com:acme/shop.git": ["acme/shop.git"],
	"https://git.acme.test/acme/shop": ["acme/shop"],
	"HTTPS://user:pass@GitHub.com:443/Acme/Shop.git": ["Acme/Shop.git"],
	"ssh://git@git.acme.test:22/acme/shop.git (fetch)": ["acme/shop.git"],
	"see https://docs.acme.test/acme/shop and acme/shop": [],
}

test_repository[text] if {
	some text, captured in _remotes
	pattern := tables.main.signals.repository.pattern
	captured == [found[1] | some found in regex.find_all_string_submatch_n(pattern, text, -1)]
}
