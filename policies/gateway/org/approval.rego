package gateway.org

import data.gateway.config

# METADATA
# title: A production repository of the caller's own team
# description: Those who may write to production run directly; others of the team are held.
# custom:
#   code: repositories.production
approval contains production_demand(name, rego.metadata.rule().custom.code) if {
	some name in _production
	not _writer(name)
	_owner(name)
}

# METADATA
# title: What is demanded about a production repository
production_demand(name, code) := object.union(
	{"code": code, "about": name, "approvers": repository.approvers},
	object.filter(repository, ["quorum", "all_groups"]),
) if {
	repository := config.repositories[name]
}

# METADATA
# title: The production repositories that the request names
# description: By claim, header or content alike, since being named can only tighten.
_production contains name if {
	some name in _named
	config.repositories[name].production
}

_named contains _repository(named.value) if some named in input.request.repositories

_named contains _repository(capture) if some capture in input.signals.repository.captures

_repository(text) := trim_suffix(trim_right(lower(text), "."), ".git")

_writer(name) if config.repositories[name].writers in input.principal.groups

_owner(name) if config.repositories[name].owners in input.principal.groups
