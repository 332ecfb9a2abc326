package gateway.config_test

import data.gateway.config
import data.gateway.lifecycle
import data.gateway.tables

_production := {name: repository | some name, repository in config.repositories; repository.production}

test_the_classes_that_rules_name_are_kept[name] if {
	some name in {"short", "standard", "production", "undecided"}
	lifecycle.main.classes[name].days > 0
}

test_the_default_class_is_kept if lifecycle.main.classes[config.settings.retention_class]

test_every_mask_that_is_named_exists[name] if {
	some holder in array.concat([config], [group | some group in config.groups])
	some direction in ["masking", "request_masking", "record_masking"]
	some name in holder[direction]
	_is_mask(name)
}

_is_mask(name) if tables.main.masks[name]

_is_mask(name) if tables.main.topics[name]

test_every_production_repository_has_its_groups[name] if {
	some name, repository in _production
	name == lower(name)
	is_string(repository.owners)
	is_string(repository.approvers)
	is_string(repository.writers)
}

test_approvers_see_what_they_decide[group] if {
	some group in {repository.approvers | some repository in _production}
	config.groups[group].access["approvals.list"] == true
}
