"""What every output in columns keeps to: which may be asked for, and how much is looked into."""

from collections.abc import Sequence

from lykke_cli.application.errors import UsageMistake
from lykke_cli.cli.output.fields import is_field

MAX_MESSAGE_SIZE = 1 << 20  # bytes of a message beyond which the table does not look into it


def check_columns(
    columns: Sequence[str], known: Sequence[str], *, any_key: bool = False
) -> Sequence[str]:
    """`columns`, each there once and one of `known`, or with `any_key` any key of an object.

    Raises UsageMistake.
    """
    unknown = [name for name in columns if name not in known]
    if any_key:
        unknown = [name for name in unknown if not is_field(name)]
    if unknown or len(set(columns)) < len(columns) or not columns:
        others = ", or a key such as event_data.title" if any_key else ""
        raise UsageMistake(
            f"--columns {','.join(columns)}: give some of {', '.join(known)}{others}, each once."
        )
    return columns
