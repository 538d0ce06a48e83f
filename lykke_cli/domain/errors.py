"""The root of every error the library raises on purpose."""


class LykkeError(Exception):
    """Something went wrong in lykke."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or self.__class__.__doc__)


class DomainError(LykkeError):
    """A rule of the audit log was broken."""


class ImmutableEntityError(DomainError):
    """An audit log entry is a record of what happened: it is never changed or deleted."""


class InvalidEntityError(DomainError):
    """The audit log entry has a field of the wrong kind."""
