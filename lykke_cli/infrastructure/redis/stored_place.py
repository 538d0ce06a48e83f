"""The place of a partition, as its key holds it: JSON."""

import msgspec

from lykke_cli.application.gateways.stream_log_protocol import Place


class StoredPlace(msgspec.Struct, frozen=True):
    """A place, and what of the stream it goes with."""

    place: Place
    last: str
    """The id of the last entry that was written before it; empty where there was none."""
    written_at: float
    """In seconds since 1970, by the relay's clock."""

    def encode(self) -> bytes:
        return _encode(self)

    @classmethod
    def decode(cls, text: bytes) -> "StoredPlace":
        """Raises msgspec.MsgspecError for what is none."""
        return _decode(text)


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(StoredPlace).decode
