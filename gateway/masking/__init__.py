"""Masking: rules from the bundle, applied to text, JSON and streams; pure.

Invariant: what is delivered equals masking the whole text, for any chunking, and no part of a
masked value was out at any moment.
"""
