# METADATA
# title: Tables
# description: The patterns that the gateway's workers load, with the revision they belong to.
package gateway.tables

# METADATA
# title: Masks and signals
# description: Each mask by its name; the names by topic, so that a policy can ask for a whole topic.
# entrypoint: true
main := {"masks": _masks, "topics": _topics, "signals": data.gateway.signals}

_masks[name] := mask if {
	some topic
	some name, mask in data.gateway.masks[topic]
}

_topics[topic] := [name | some name, _ in masks] if some topic, masks in data.gateway.masks
