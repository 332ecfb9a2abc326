"""The policy enforcement point between callers and a Claude server."""
