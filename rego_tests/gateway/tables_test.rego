package gateway.tables_test

import data.gateway.tables

# Written in parts, so that no scanner takes them for real.
_masked := {
	"aws_access_key": [concat("", ["AKIA", "ABCDEFGHIJKLMNOP"]), concat("", ["ASIA", "0123456789ABCDEF"])],
	"github_token": [
		concat("", ["ghp", "_0123456789abcdefghijABCDEFGHIJ012345"]),
		concat("", ["github", "_pat_11ABCDEFG0123456789abc_0123456789abcdefghijABCDEFGHIJ0123456789abcdefghij"]),
	],
	"slack_token": [concat("", ["xoxb", "-123456789012-abcdefABCDEF"]), concat("", ["xapp", "-1-A0123-456-abcdef"])],
	"jwt": [concat(".", ["eyJhbGciOiJIUzI1NiJ9", "eyJzdWIiOiIxMjM0NTY3ODkwIn0", "c2lnbmF0dXJl_-x"])],
	"email": ["ann.lee+x@mail.acme.test", "a@b.test."],
	"private_key": [
		"-----BEGIN PRIVATE KEY-----",
		"-----BEGIN RSA PRIVATE KEY-----",
		"-----BEGIN OPENSSH PRIVATE KEY-----",
	],
	"pgp_private_key": ["-----BEGIN PGP PRIVATE KEY BLOCK-----"],
}

_unmasked := {
	"aws_access_key": ["AKIASHORT", "akiaabcdefghijklmnop"],
	"github_token": ["ghp_short", "github_pat_short"],
	"slack_token": ["xoxb-short", "xoxo-0123456789ab"],
	"jwt": ["eyJhbGciOiJIUzI1NiJ9", "eyJh.eyJi.x"],
	"email": ["ann@localhost", "@acme.test", "git@host"],
	"private_key": ["-----BEGIN PUBLIC KEY-----", "-----BEGIN CERTIFICATE-----"],
	"pgp_private_key": ["-----BEGIN PGP PUBLIC KEY BLOCK-----"],
}

_matches(rule, text) if regex.match(sprintf("^(?:%s)$", [rule.pattern]), text)

test_masked[text] if {
	some name, texts in _masked
	some text in texts
	rule := tables.main.masks[name]
	_matches(rule, text)
	regex.match(sprintf("^%s+$", [rule.alphabet]), text)
	count(text) <= rule.longest
	_begins(rule, text)
}

_begins(rule, _) if rule.begins == []

_begins(rule, text) if strings.any_prefix_match(text, rule.begins)

test_not_masked[text] if {
	some name, texts in _unmasked
	some text in texts
	not _matches(tables.main.masks[name], text)
}

test_every_pattern_has_examples if {
	patterns := {name | some name, rule in tables.main.masks; rule.kind in {"pattern", "block"}}
	patterns == object.keys(_masked)
	patterns == object.keys(_unmasked)
}

test_a_mask_can_not_match_its_own_replacement[name] if {
	some name, _ in _masked
	not regex.match(tables.main.masks[name].pattern, tables.main.masks[name].replace)
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
