"""Secrets in files, and in the environment: NAME holds one, or NAME_FILE names its file."""

import os
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from lykke_cli.application.errors import UsageMistake

LONGEST_SECRET = 64 << 10  # bytes
_NOBODY_ELSE = stat.S_IRWXG | stat.S_IRWXO


@dataclass(frozen=True, slots=True)
class Secret:
    """What a variable holds, never shown."""

    text: str = field(repr=False)
    source: str
    """The variable that gave it."""
    notices: tuple[str, ...] = ()
    """What the person should know about where it came from."""


def secret_of(environ: Mapping[str, str], name: str) -> Secret | None:
    """The secret called `name`, without the white space round it; None where there is none.

    Raises UsageMistake where both NAME and NAME_FILE are set, or the file cannot be read, or is
    empty.
    """
    source = f"{name}_FILE"
    text, path = environ.get(name, "").strip(), environ.get(source)
    if text and path:
        raise UsageMistake(f"{name} and {source} are both set: leave one out.")
    if text:
        return Secret(text, name)
    if not path:
        return None
    file = Path(path).expanduser()
    try:
        text = read_secret(file)
    except ValueError as error:
        raise UsageMistake(f"{source}: {error}.") from None
    return Secret(text, source, exposures([file]))


def read_secret(file: Path) -> str:
    """What the file holds, without the white space round it; raises ValueError with the reason."""
    try:
        with file.open("rb") as stream:
            content = stream.read(LONGEST_SECRET + 1)
        text = content.decode().strip()
    except OSError as error:
        raise ValueError(f"cannot read {file}: {error.strerror}") from None
    except ValueError:  # no UTF-8, or a path with a zero byte
        raise ValueError(f"{file} is not text") from None
    if not text:
        raise ValueError(f"{file} is empty")
    if len(content) > LONGEST_SECRET:
        raise ValueError(f"{file} has more than {LONGEST_SECRET >> 10} KiB")
    return text


def exposures(files: Iterable[Path], what: str = "secret") -> tuple[str, ...]:
    """What the person should know of files that hold one, where others have a right to them."""
    return tuple(
        f"{file} holds a {what} and others may read it: chmod 600 {file}"
        for file in files
        if _others_may_read(file)
    )


def _others_may_read(file: Path) -> bool:
    """Whether anybody but its owner has a right to the file; never on Windows."""
    try:
        return os.name == "posix" and bool(file.stat().st_mode & _NOBODY_ELSE)
    except OSError:
        return False
