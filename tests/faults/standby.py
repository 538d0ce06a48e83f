"""A standby of a PostgreSQL server, which may be promoted."""

from tests.servers import PostgresServer, wait_until


class Standby(PostgresServer):
    """Follows `primary`, which runs, and is stopped while its data are copied."""

    def __init__(self, primary: PostgresServer) -> None:
        primary.stop()
        super().__init__(primary)
        primary.start()
        self._primary = primary
        signal = self._data / "standby.signal"
        signal.touch()
        self._give_away(signal)

    def start(self) -> None:
        source = f"host={self._primary.folder} port={self._primary.port} user=postgres"
        with (self._data / "postgresql.auto.conf").open("a") as file:
            file.write(f"primary_conninfo = '{source}'\n")
        super().start()

    def cut_off(self) -> None:
        """Receive nothing more from the primary."""
        self.execute("ALTER SYSTEM SET primary_conninfo = ''")
        self.execute("SELECT pg_reload_conf()")
        wait_until(lambda: not self._receives(), "the standby is cut off")

    def promote(self) -> None:
        self.execute("SELECT pg_promote()")

    def catch_up(self) -> None:
        """Wait until it shows all that the primary has committed."""
        position = self._primary.fetch_value("SELECT pg_current_wal_lsn()::text")
        wait_until(
            lambda: bool(
                self.fetch_value(f"SELECT pg_last_wal_replay_lsn() >= '{position}'::pg_lsn")
            ),
            "the standby catches up",
        )

    def _receives(self) -> bool:
        return bool(self.fetch_value("SELECT count(*) FROM pg_stat_wal_receiver"))
