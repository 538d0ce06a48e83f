"""The root of every error the library raises on purpose."""


class LykkeError(Exception):
    """Something went wrong in lykke."""

    def __init__(self, message: str | None = None, *, remedy: str | None = None) -> None:
        self.problem = message or str(self.__class__.__doc__)
        """What is wrong; the error's text has the remedy after it."""
        self.remedy = remedy
        """What to do about it, in a sentence, where that is known."""
        super().__init__(self.problem if remedy is None else f"{self.problem} {remedy}")


class DomainError(LykkeError):
    """A rule of the audit log was broken."""


class ImmutableEntityError(DomainError):
    """An audit log entry is a record of what happened: it is never changed or deleted."""


class InvalidEntityError(DomainError):
    """The audit log entry has a field of the wrong kind."""
