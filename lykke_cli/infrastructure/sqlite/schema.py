"""The audit log table on SQLite, for trying things out and for tests.

`seq` is the explicit commit sequence: AUTOINCREMENT never gives a number twice, where a bare rowid
is reused after a DELETE and may be renumbered by VACUUM. The other columns hold what SQLAlchemy's
Uuid, DateTime and JSON types store.
"""

import sqlite3
from contextlib import closing
from os import PathLike

_TABLE = """
CREATE TABLE IF NOT EXISTS audit_logs (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id CHAR(32) NOT NULL UNIQUE,
    user_id CHAR(32) NOT NULL,
    activity_type VARCHAR NOT NULL,
    occurred_at DATETIME NOT NULL,
    entity_id CHAR(32),
    entity_type VARCHAR,
    meta JSON,
    date DATE NOT NULL
);
CREATE INDEX IF NOT EXISTS ix_audit_logs_user_id ON audit_logs (user_id);
CREATE INDEX IF NOT EXISTS ix_audit_logs_activity_type ON audit_logs (activity_type);
CREATE INDEX IF NOT EXISTS ix_audit_logs_occurred_at ON audit_logs (occurred_at);
CREATE INDEX IF NOT EXISTS ix_audit_logs_entity_id ON audit_logs (entity_id);
CREATE INDEX IF NOT EXISTS ix_audit_logs_user_id_occurred_at ON audit_logs (user_id, occurred_at);
CREATE INDEX IF NOT EXISTS ix_audit_logs_user_id_activity_type
    ON audit_logs (user_id, activity_type);
"""


def create_sqlite_table(path: str | PathLike[str]) -> None:
    """Create the table and its indexes in the file `path`, which need not exist yet.

    A table that is there already is left as it is. Raises ServerUnavailable when the file cannot
    be opened.
    """
    from lykke_cli.infrastructure.database.errors import database_errors

    with database_errors(f"sqlite:///{path}"), closing(sqlite3.connect(path)) as connection:
        # Readers do not wait for the writer, nor the writer for readers.
        connection.execute("PRAGMA journal_mode = WAL")
        connection.executescript(_TABLE)
