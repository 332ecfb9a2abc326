"""Checks of the contract that Claude's clients rely on, against any gateway, from the outside.

Knows nothing of this gateway: it stands on both sides of the tested one, as its caller and as the
Claude server behind it, and compares what goes in with what comes out.
"""
