# METADATA
# title: Lifecycle
# description: How long records are kept.
package gateway.lifecycle

# METADATA
# title: Days by retention class
# entrypoint: true
main := {"classes": data.gateway.config.retention}
