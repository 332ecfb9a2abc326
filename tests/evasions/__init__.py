"""Attacks that try to get something past the gateway, each named as the decision it must get."""
