"""What can go wrong outside the domain, one class for each situation a caller can act on."""

from datetime import UTC, datetime

from lykke_cli.domain.errors import LykkeError


class ServerUnavailable(LykkeError):
    """A server cannot be reached."""


class LoginRefused(ServerUnavailable):
    """A server refused the login or lacks a right that is needed."""


class SubscriptionLost(ServerUnavailable):
    """The subscription's connection broke: messages may be missing from here on."""

    def __init__(
        self,
        message: str | None = None,
        *,
        since: datetime | None = None,
        remedy: str | None = None,
    ) -> None:
        super().__init__(message, remedy=remedy)
        self.since = datetime.now(UTC) if since is None else since
        """When the server was last heard of."""


class SubscriptionClosed(LykkeError, RuntimeError):
    """The subscription was closed on this side."""


class SchemaMismatch(ServerUnavailable):
    """The database has no audit log table that can be read."""


class StreamsMissing(ServerUnavailable):
    """Redis has no streams of audit logs."""


class BrokenOff(ServerUnavailable):
    """The database broke a transaction off in the middle, which is worth another attempt."""


class TimedOut(ServerUnavailable):
    """The database did not do in time what it was asked for."""


class CommitUncertain(ServerUnavailable):
    """The database did not answer the COMMIT: it may have been done, and it may not."""


class BadInput(LykkeError):
    """The input cannot be read."""


class ReferenceMissing(BadInput):
    """What is recorded refers to a row that is not there."""


class UsageMistake(LykkeError):
    """The command was called with arguments that do not fit."""


class ExpectationNotMet(LykkeError):
    """What was waited for did not happen."""


class UnitOfWorkFailed(LykkeError):
    """An inner block of this unit of work failed, so nothing was committed."""


class OutputFailed(BadInput):
    """The output file cannot be written."""


class CursorBusy(UsageMistake):
    """Another lykke holds this user's stored place."""
