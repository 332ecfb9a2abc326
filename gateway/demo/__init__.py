"""The demo's far ends: a Claude server without a model, and an OIDC issuer without people.

Both are for trying the gateway on one machine and for its tests. They bind to loopback only, and
nothing else in the gateway may import them except the commands that start them.
"""
