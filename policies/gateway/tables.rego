# METADATA
# title: Tables
# description: The patterns that the gateway's workers load, with the revision they belong to.
package gateway.tables

# METADATA
# title: Masks and signals
# entrypoint: true
main := {"masks": data.gateway.masks, "signals": data.gateway.signals}
