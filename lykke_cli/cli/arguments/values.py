"""How the texts of arguments become values; raises UsageMistake where they cannot."""

import re
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from typing import Annotated
from uuid import UUID

import typer

from lykke_cli.application.errors import UsageMistake
from lykke_cli.application.times import parse_duration, parse_moment


def parse_uuid(text: str) -> UUID:
    """A UUID, or a usage mistake that says what one looks like."""
    try:
        return UUID(text)
    except ValueError:
        raise UsageMistake(
            f"{text!r} is not a UUID: write it like 3f2b8c1e-5d7a-4b9c-9e1f-0a6d2c4b8e10."
        ) from None


@dataclass(frozen=True, slots=True)
class User:
    """A user as the command line names one: by id, by its start, or by e-mail address."""

    named: UUID | str

    @property
    def is_id(self) -> bool:
        """Whether nothing has to be looked up."""
        return isinstance(self.named, UUID)


def parse_user(text: str) -> User:
    """A USER_ID; raises UsageMistake."""
    if "@" in text:
        return User(text)
    try:
        return User(UUID(text))
    except ValueError:
        digits = text.replace("-", "").lower()
        if _START.fullmatch(digits):
            parts = (digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:])
            return User("-".join(filter(None, parts)))
        raise UsageMistake(
            f"{text!r} is no user: give {_NAMING_ONE}. "
            "A UUID is like 3f2b8c1e-5d7a-4b9c-9e1f-0a6d2c4b8e10."
        ) from None


_START = re.compile("[0-9a-f]{6,31}")
_NAMING_ONE = "a UUID, at least its first six characters, or an e-mail address"
USER_HELP = f"The user: {_NAMING_ONE}."
UserIds = Annotated[
    list[User] | None,
    typer.Argument(
        metavar="USER_ID",
        parser=parse_user,
        help=f"The users: each {_NAMING_ONE}.",
        show_default=False,
    ),
]
UserId = Annotated[User, typer.Argument(metavar="USER_ID", parser=parse_user, help=USER_HELP)]


def parse_channel_type(text: str) -> str:
    """A type of channels; raises UsageMistake for what could only be a slip, or is a pattern."""
    if not text or not text.isprintable() or set(text) & set(" *?[\\"):
        raise UsageMistake(
            f"{text!r} is no type of channels: write a name such as auditlog, "
            "without spaces and patterns."
        )
    return text


def require_users(users: Collection[object] | None, *, all_users: bool) -> None:
    """Raise UsageMistake unless there is either a user or --all."""
    if bool(users) == all_users:
        raise UsageMistake("Give either a USER_ID, or --all for every user.")


def moment(text: str, zone: tzinfo | None) -> datetime:
    """A `TIME` option's value, read in `zone` (None: this machine's)."""
    return parse_moment(text, datetime.now(UTC), zone)


def seconds(text: str | None) -> float | None:
    """A duration option's value, in seconds."""
    return None if text is None else parse_duration(text).total_seconds()


def interval(text: str) -> float:
    """A duration option's value that must not be zero, in seconds."""
    value = parse_duration(text).total_seconds()
    if value <= 0:
        raise UsageMistake(f"{text!r} is no interval: write it like 10s or 1m.")
    return value


def size(text: str) -> int:
    """A size in bytes: `100M`, `2G`, `500K`; raises UsageMistake."""
    match = re.fullmatch(r"(\d{1,12})([KMG]?)(?:i?B)?", text.strip(), re.ASCII | re.IGNORECASE)
    if match is None or int(match[1]) == 0:
        raise UsageMistake(f"{text!r} is not a size: write it like 500K, 100M or 2G.")
    return int(match[1]) << 10 * " KMG".index(match[2].upper() or " ")
