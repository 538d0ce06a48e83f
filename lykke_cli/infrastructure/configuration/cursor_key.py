"""The keys that cursors are sealed with, which every worker and every restart shares."""

from collections.abc import Mapping

from lykke_cli.application.errors import UsageMistake
from lykke_cli.infrastructure.configuration.secret import secret_of

CURSOR_KEY = "LYKKE_CURSOR_KEY"
DIGITS = 64
_MAKE_ONE = "openssl rand -hex 32 makes one."


def cursor_keys(environ: Mapping[str, str]) -> tuple[bytes, ...] | None:
    """The keys in LYKKE_CURSOR_KEY, or in the file that LYKKE_CURSOR_KEY_FILE names.

    Each is 64 hexadecimal digits, which is 32 bytes; several are separated by commas, the first is
    the one to seal with. None where neither is set. Raises UsageMistake, which does not show them.
    """
    secret = secret_of(environ, CURSOR_KEY)
    if secret is None:
        return None
    written = [key.strip() for key in secret.text.split(",")]
    keys = tuple(_key(text, number, secret.source) for number, text in enumerate(written, 1))
    if len(set(keys)) != len(keys):
        raise UsageMistake(f"{secret.source}: it has the same key twice.")
    return keys


def _key(text: str, number: int, source: str) -> bytes:
    try:
        key = bytes.fromhex(text)
    except ValueError:
        key = b""
    if len(text) != DIGITS or not key:
        raise UsageMistake(
            f"{source}: key {number} is not {DIGITS} hexadecimal digits.", remedy=_MAKE_ONE
        )
    return key
