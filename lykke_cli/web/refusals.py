"""What a client is told when it does not get what it asked for."""

import logging

import orjson

from lykke_cli.application.errors import (
    BadInput,
    ServerUnavailable,
    SubscriptionClosed,
    UsageMistake,
)
from lykke_cli.domain.errors import LykkeError
from lykke_cli.infrastructure.sealed_cursors import CursorRefused
from lykke_cli.web.authorization import TokenMisplaced
from lykke_cli.web.grant import Forbidden, Unauthorized
from lykke_cli.web.limits import TooMany

NOT_UNDERSTOOD, NOT_KNOWN, NOT_ALLOWED = 4400, 4401, 4403
TOO_SLOW, TOO_MANY, TOO_LARGE, RESTART = 4408, 4429, 1009, 1012
TRY_AGAIN_LATER = 1013

logger = logging.getLogger("lykke_cli.web")


class Refusal(LykkeError):
    """It is not served."""

    def __init__(
        self, code: str, message: str, status: int, close: int, *, temporary: bool = False
    ) -> None:
        super().__init__(message)
        self.code = code
        """For programs."""
        self.status = status
        """Of HTTP."""
        self.close = close
        """A WebSocket's code."""
        self.temporary = temporary
        """The same request may work later."""

    def to_json(self) -> bytes:
        """The message that says so."""
        return orjson.dumps(
            {
                "type": "error",
                "code": self.code,
                "temporary": self.temporary,
                "message": self.problem,
            }
        )


def bad_request(message: str) -> Refusal:
    """What was asked for makes no sense."""
    return Refusal("bad_request", message, 400, NOT_UNDERSTOOD)


def unavailable(message: str) -> Refusal:
    """It would have been served at another time."""
    return Refusal("unavailable", message, 503, TRY_AGAIN_LATER, temporary=True)


def refusal_of(error: LykkeError) -> Refusal:
    """The refusal that an error amounts to.

    What a server behind us said is for the log: a client learns nothing of where they are.
    """
    message = error.problem
    match error:
        case Refusal():
            return error
        case Unauthorized():
            return Refusal(error.code, message, 401, NOT_KNOWN)
        case Forbidden():
            return Refusal(error.code, message, 403, NOT_ALLOWED)
        case TooMany():
            return Refusal(error.code, message, 429, TOO_MANY, temporary=True)
        case CursorRefused():
            return Refusal("cursor_refused", message, 400, NOT_UNDERSTOOD)
        case TokenMisplaced():
            return bad_request(message)
        case ServerUnavailable() | SubscriptionClosed():
            logger.warning("A client was not served: %s", error)
            return unavailable("A server that is needed cannot be reached: try again.")
        case BadInput() | UsageMistake():  # such as every user's entries, where no pattern is
            logger.warning("A client was not served: %s", error)
            return bad_request("What was sent cannot be used.")
    raise error
