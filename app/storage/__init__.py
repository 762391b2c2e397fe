"""Memory: every invoice and event, in SQLite or PostgreSQL."""
