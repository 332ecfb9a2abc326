package gateway.org

import data.gateway.config

# METADATA
# title: Work on production is kept for long
# custom:
#   code: repositories.production
recording contains {"code": rego.metadata.rule().custom.code, "retention_class": "production"} if {
	count(_production) > 0
}

# METADATA
# title: A trusted workload of a service, whose content is not kept
# description: Its name must come from a claim; a header of that name lowers nothing.
# custom:
#   code: workloads.not_kept
lowered_recording := {"code": rego.metadata.rule().custom.code, "content": content} if {
	input.principal.kind == "service"
	input.request.workflow.source == "claim"
	content := config.workloads[input.request.workflow.value].content
}
