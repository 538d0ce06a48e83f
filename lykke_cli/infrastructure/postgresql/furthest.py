"""How far those have read who read together: none of them is shown less than another was.

Behind one address there may be several standbys, each of which has come more or less far. What one
lacks that was read from another would be taken for what is not there.
"""

from lykke_cli.infrastructure.postgresql.cursor import Origin, Snapshot, lags


class Furthest:
    """Shared by the connections of one reader."""

    def __init__(self) -> None:
        self.origin: Origin | None = None
        """Of the snapshot that shows most."""

    def note(self, snapshot: Snapshot) -> None:
        """It was read from. One that was taken meanwhile may show more."""
        if self.origin is None or not lags(self.origin, snapshot):
            self.origin = snapshot.origin
