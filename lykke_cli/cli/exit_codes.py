"""What the process answers, and which error means what."""

from enum import IntEnum

from lykke_cli.application.errors import (
    BadInput,
    ExpectationNotMet,
    ServerUnavailable,
    UsageMistake,
)
from lykke_cli.domain.errors import DomainError


class ExitCode(IntEnum):
    """The exit codes of every command."""

    DONE = 0
    BUG = 1
    USAGE = 2
    UNAVAILABLE = 3
    """A server cannot be reached or refuses the login."""
    EXPECTATION = 4
    """What was waited for did not happen."""
    BAD_INPUT = 5
    INTERRUPTED = 130
    TERMINATED = 143


_BY_ERROR: tuple[tuple[type[Exception], ExitCode], ...] = (
    (UsageMistake, ExitCode.USAGE),
    (ServerUnavailable, ExitCode.UNAVAILABLE),
    (ExpectationNotMet, ExitCode.EXPECTATION),
    (BadInput, ExitCode.BAD_INPUT),
    (DomainError, ExitCode.BAD_INPUT),
)


class Stopped(Exception):
    """A signal ended the command."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.exit_code = 128 + number


def exit_code_of(error: BaseException) -> ExitCode:
    """The code for an error; BUG for one that nobody expected."""
    return next((code for kind, code in _BY_ERROR if isinstance(error, kind)), ExitCode.BUG)
