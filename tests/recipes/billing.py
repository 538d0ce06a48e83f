import json
import sqlite3
import uuid
from typing import Any

import lykke_cli


class PlaceInDatabase:
    """A place as a row of the application's own database, on the connection that does its work."""

    def __init__(self, database: sqlite3.Connection, name: str) -> None:
        self._database, self._name = database, name
        database.execute("CREATE TABLE IF NOT EXISTS places (name TEXT PRIMARY KEY, state TEXT)")

    def load(self) -> list[dict[str, Any]] | None:
        query = "SELECT state FROM places WHERE name = ?"
        row = self._database.execute(query, [self._name]).fetchone()
        return None if row is None else [json.loads(line) for line in row[0].splitlines()]

    def save(self, state: dict[str, Any]) -> None:
        query = "INSERT INTO places VALUES (?, ?) ON CONFLICT DO UPDATE SET state = excluded.state"
        self._database.execute(query, [self._name, json.dumps(state)])

    def add(self, change: dict[str, Any]) -> None:
        query = "UPDATE places SET state = state || char(10) || ? WHERE name = ?"
        self._database.execute(query, [json.dumps(change), self._name])

    def set_aside(self) -> None:
        query = "UPDATE places SET name = name || '.damaged' WHERE name = ?"
        self._database.execute(query, [self._name])


async def bill(user_id: uuid.UUID, database: sqlite3.Connection, **options: Any) -> None:
    """Write an invoice for each entry, exactly once, for ever. `isolation_level` is None."""
    place = PlaceInDatabase(database, "billing")
    async with lykke_cli.follow(user_id, place=place, on_demand=True, **options) as entries:
        async for entry in entries:
            with database:  # both or neither
                database.execute("BEGIN")
                database.execute("INSERT INTO invoices (entry_id) VALUES (?)", [entry.id])
                entries.acknowledge(entry)
