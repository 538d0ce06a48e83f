"""How the refusals of a bridge are told.

`name` is the bridge's; `why` is what it said, as it came, and may be empty.
"""

from lykke_cli.application.errors import LoginRefused, ServerUnavailable
from lykke_cli.application.gateways.bridge_protocol import BridgeRefused, PlaceRefused
from lykke_cli.application.messages import MAX_SHOWN_REASON


def token_refused(name: str, why: str) -> LoginRefused:
    """Who asks is not known to the bridge."""
    return LoginRefused(
        f"The bridge at {name} refused the login{in_brackets(why)}.",
        remedy="Put a token that holds into LYKKE_TOKEN, or into the file that LYKKE_TOKEN_FILE "
        "names.",
    )


def reading_refused(name: str, why: str) -> LoginRefused:
    """Who asks may not read that."""
    return LoginRefused(
        f"The bridge at {name} does not permit that{in_brackets(why)}.",
        remedy="Ask for a token that may read this user's entries.",
    )


def request_refused(name: str, why: str) -> BridgeRefused:
    """What is asked for makes no sense to the bridge."""
    return BridgeRefused(
        f"The bridge at {name} does not understand the request{in_brackets(why)}.",
        remedy=None if why else "Is it of another version than this lykke?",
    )


def place_refused(name: str, why: str, *, at_start: bool) -> PlaceRefused:
    """The stored place is none to this bridge."""
    error = PlaceRefused(
        f"The bridge at {name} does not go on from the stored place{in_brackets(why)}.",
        remedy="Begin afresh with --since TIME, in place of --resume; what an output file has is "
        "not written again.",
    )
    error.at_start = at_start
    return error


def not_ready(name: str, why: str, *, what: str = "is not ready") -> ServerUnavailable:
    """It may pass."""
    return ServerUnavailable(
        f"The bridge at {name} {what}{in_brackets(why)}.", remedy="Try again a little later."
    )


def in_brackets(why: str) -> str:
    """A reason after what it is the reason of, on one line and not too long."""
    line = on_one_line(why, MAX_SHOWN_REASON)
    return f" ({line.rstrip('.')})" if line else ""


def on_one_line(text: str, most: int) -> str:
    """What a bridge says, in so many characters."""
    line = " ".join(text.split())
    return line if len(line) <= most else line[: most - 1] + "…"
