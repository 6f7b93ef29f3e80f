"""The state store: SQLAlchemy Core over SQLite or PostgreSQL."""
