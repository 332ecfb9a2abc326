"""The revisions in their order; a released one is never changed."""
