"""The state store: SQLAlchemy Core over SQLite."""
