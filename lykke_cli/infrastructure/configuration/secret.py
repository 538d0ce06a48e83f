"""A secret from the environment: NAME holds it, or NAME_FILE names the file that does."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from lykke_cli.application.errors import UsageMistake
from lykke_cli.infrastructure.configuration.profiles import others_may_read

LONGEST_SECRET = 64 << 10  # bytes


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
        with file.open("rb") as stream:
            content = stream.read(LONGEST_SECRET + 1)
        text = content.decode().strip()
    except OSError as error:
        raise UsageMistake(f"{source}: cannot read {file}: {error.strerror}.") from None
    except ValueError:  # no UTF-8, or a path with a zero byte
        raise UsageMistake(f"{source}: {file} is not text.") from None
    if not text:
        raise UsageMistake(f"{source}: {file} is empty.")
    if len(content) > LONGEST_SECRET:
        raise UsageMistake(f"{source}: {file} has more than {LONGEST_SECRET >> 10} KiB.")
    notices: tuple[str, ...] = ()
    if others_may_read(file):
        notices = (f"{file} holds a secret and others may read it: chmod 600 {file}",)
    return Secret(text, source, notices)
