"""What SQLite alone does: its file, its schema. What PostgreSQL does too is in `database`."""
