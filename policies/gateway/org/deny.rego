# METADATA
# title: The floor
# description: >-
#   What holds for everyone. Teams may add to deny, approval, recording and masking, and take
#   nothing away. Only groups of the token grant; facts from a header or the content may only
#   tighten. Deny by `not` and a rule without arguments, since `not` of a call with a missing
#   argument is undefined and would deny nothing.
# schemas:
#   - input: schema.input
package gateway.org

import data.gateway.config
import data.gateway.grants
import data.gateway.tokens

# METADATA
# title: A fact that the rules need is missing
# custom:
#   code: input.incomplete
#   message: The request could not be judged.
deny contains rego.metadata.rule().custom if not _complete

# METADATA
# title: The token is too old
# custom:
#   code: token.too_old
#   message: Your token is too old. Log in again.
deny contains rego.metadata.rule().custom if not _token_fresh

# METADATA
# title: A lock is on the caller
# custom:
#   code: locks.active
#   message: An administrator has stopped your requests.
deny contains rego.metadata.rule().custom if not _unlocked

# METADATA
# title: Nobody knows whether a lock is on the caller
# custom:
#   code: locks.stale
#   message: The list of locks is out of date. Try again in a minute.
deny contains rego.metadata.rule().custom if not _locks_fresh

# METADATA
# title: Not a route of the Messages API
# custom:
#   code: route.unknown
#   message: The gateway does not carry this route.
deny contains rego.metadata.rule().custom if {
	not _route_known
	not _route_shared
}

# METADATA
# title: Batches and files
# description: What one caller leaves there, another could fetch, since all share one credential.
# custom:
#   code: route.shared
#   message: >-
#     Message Batches and Files are not carried. The Claude server keeps them under one credential
#     for everyone, so other people could fetch yours; send single messages.
deny contains rego.metadata.rule().custom if _route_shared

# METADATA
# title: No group of the caller grants the model
# custom:
#   code: models.not_granted
#   message: None of your groups grants the model "%s".
deny contains {"code": custom.code, "message": sprintf(custom.message, [_model])} if {
	_route_known
	not _model_granted
	custom := rego.metadata.rule().custom
}

# METADATA
# title: No group of the caller grants a named MCP server
# custom:
#   code: mcp.not_granted
#   message: None of your groups grants an MCP server that the request names.
deny contains rego.metadata.rule().custom if not _mcp_hosts_granted

# METADATA
# title: No group of the caller grants a server tool
# custom:
#   code: server_tools.not_granted
#   message: None of your groups grants a server tool that the request names.
deny contains rego.metadata.rule().custom if not _server_tools_granted

# METADATA
# title: No group of the caller grants content from elsewhere, such as a URL or a file
# description: The gateway sees neither, so it could not record or judge them.
# custom:
#   code: sources.not_granted
#   message: None of your groups grants content that is named by a URL or a file id.
deny contains rego.metadata.rule().custom if not _sources_granted

# METADATA
# title: More repositories than can be judged
# custom:
#   code: signals.cut
#   message: The prompt names more repositories than the gateway can judge. Name fewer.
deny contains rego.metadata.rule().custom if {
	some signal in input.signals
	not _whole(signal)
}

# METADATA
# title: A production repository of another team
# custom:
#   code: repositories.not_owner
#   message: The repository %s is in production, and none of your groups owns it.
deny contains {"code": custom.code, "message": sprintf(custom.message, [name])} if {
	some name in _production
	not _writer(name)
	not _owner(name)
	custom := rego.metadata.rule().custom
}

_complete if {
	input.request.repositories
	input.signals
	input.principal.person != ""
}

_whole(signal) if signal.is_cut == false

_token_fresh if tokens.is_fresh(input.principal)

_unlocked if input.locks == []

_locks_fresh if input.locks_age_s <= config.settings.locks_max_age_s

_route_known if input.request.route in {"messages", "count_tokens", "models", "model"}

_route_shared if input.request.route in {"batches", "files"}

default _model := ""

_model := input.request.model

_model_granted if grants.allow(input.principal.groups, "models", input.request.model)

_model_granted if {
	input.request.route == "models"
	grants.allow_some(input.principal.groups, "models")
}

_mcp_hosts_granted if {
	every host in input.request.mcp_hosts {
		grants.allow(input.principal.groups, "mcp_hosts", host)
	}
}

_server_tools_granted if {
	every tool in input.request.server_tools {
		grants.allow(input.principal.groups, "server_tools", tool)
	}
}

_sources_granted if {
	every source in input.request.sources {
		_source_granted(source.kind)
	}
}

# Content inside the request itself.
_source_granted(kind) if kind in {"base64", "content", "text"}

_source_granted(kind) if grants.allow(input.principal.groups, "sources", kind)
