"""Versioned migrations of the state database, run by Alembic; they import nothing of ours."""
