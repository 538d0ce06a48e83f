"""The audit log table on SQLite, for the demo and for tests: plain DDL, no SQLAlchemy."""

import sqlite3
from contextlib import closing
from pathlib import Path

_DDL = """
PRAGMA journal_mode = WAL;
CREATE TABLE audit_logs (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id CHAR(32) NOT NULL UNIQUE,
    user_id CHAR(32) NOT NULL,
    activity_type VARCHAR NOT NULL,
    occurred_at DATETIME NOT NULL,
    entity_id CHAR(32),
    entity_type VARCHAR,
    meta JSON
);
CREATE INDEX ix_audit_logs_user_id ON audit_logs (user_id);
CREATE INDEX ix_audit_logs_activity_type ON audit_logs (activity_type);
CREATE INDEX ix_audit_logs_occurred_at ON audit_logs (occurred_at);
CREATE INDEX ix_audit_logs_entity_id ON audit_logs (entity_id);
CREATE INDEX ix_audit_logs_user_id_occurred_at ON audit_logs (user_id, occurred_at);
CREATE INDEX ix_audit_logs_user_id_activity_type ON audit_logs (user_id, activity_type);
"""


def create_sqlite_table(path: Path) -> None:
    """Create the database file with an empty audit log; `seq` is never reused."""
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(_DDL)
