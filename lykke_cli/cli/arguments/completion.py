"""What a shell's Tab offers, answered before the command line is built: it must be quick.

The words come from a table that `make completions` takes from the commands themselves; the values
from the user's own files. The scripts, and so the form of the answers, are typer's.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import orjson

from lykke_cli.application.channel_types import CHANNEL_TYPES

TABLE = Path(__file__).with_name("completion_table.json")
ACTIVITY_TYPES = ("TASK_COMPLETED", "TASK_PUNTED", "MESSAGE_SENT", "MESSAGE_RECEIVED")
_WORD = re.compile(r"""(?:[^\s"'\\]|\\.|"(?:[^"\\]|\\.)*"?|'[^']*'?)+""", re.DOTALL)
_HARMLESS_IN_ZSH = str.maketrans({**dict.fromkeys("\\\"'`$"), ":": "\\\\:"})

Items = Mapping[str, str]
"""What is offered, each with a help text."""


def answer(environ: Mapping[str, str]) -> tuple[str, int] | None:
    """The text and the exit code for a shell that asks; None when this is another request."""
    shell = environ.get("_LYKKE_COMPLETE", "").removeprefix("complete_")
    line = environ.get("_TYPER_COMPLETE_ARGS", "")
    match shell:
        case "bash":
            words = _WORD.findall(environ.get("COMP_WORDS", ""))
            number = environ.get("COMP_CWORD", "")
            at = int(number) if number.isdecimal() else len(words)
            begun = words[at] if at < len(words) else ""
            # bash parts words at "=": --output=js is three.
            before = [word for word in words[1:at] if word != "="]
            return "\n".join(complete(before, "" if begun == "=" else begun)), 0
        case "zsh":
            items = complete(*_split(line))
            if not items:
                return "_files", 0
            offered = "\n".join(_for_zsh(value, help_) for value, help_ in items.items())
            return f"_arguments '*: :(({offered}))'", 0
        case "fish":
            items = complete(*_split(line))
            if environ.get("_TYPER_COMPLETE_FISH_ACTION") == "is-args":
                return "", 0 if items else 1
            return "\n".join(f"{value}\t{help_}" for value, help_ in items.items()), 0
        case "powershell" | "pwsh":
            begun = environ.get("_TYPER_COMPLETE_WORD_TO_COMPLETE", "")
            before = _WORD.findall(line)[1:]
            items = complete(before[:-1] if begun else before, begun)
            return "\n".join(f"{value}:::{help_ or ' '}" for value, help_ in items.items()), 0
    return None


def complete(before: Iterable[str], begun: str) -> Items:
    """What may stand for the word `begun` after the words `before`, lykke itself left out."""
    command = orjson.loads(TABLE.read_bytes())
    position, ended = 0, False
    waiting: dict[str, Any] | None = None  # the option whose value comes next
    for word in before:
        if waiting is not None:
            waiting = None
        elif not ended and word == "--":
            ended = True
        elif not ended and word.startswith("-") and word != "-":
            name, is_whole, _ = word.partition("=")
            option = command["options"].get(name)
            waiting = option if option and option["value"] and not is_whole else None
        elif word in command["commands"]:
            command = command["commands"][word]
        elif command["commands"]:
            return {}
        else:
            position += 1
    if waiting is not None:
        return _beginning(begun, _values(waiting["value"]))
    if begun.startswith("-") and not ended:
        name, is_whole, start = begun.partition("=")
        option = command["options"].get(name)
        if is_whole and option and option["value"]:
            values = _beginning(start, _values(option["value"]))
            return {f"{name}={value}": text for value, text in values.items()}
        return _beginning(begun, {name: o["help"] for name, o in command["options"].items()})
    if command["commands"]:
        return _beginning(begun, {name: c["help"] for name, c in command["commands"].items()})
    arguments = command["arguments"]
    if arguments[-1:] == ["users"]:  # any number of them
        position = 0
    return _beginning(begun, _values(arguments[position]) if position < len(arguments) else {})


def _values(of: str | list[str]) -> Items:
    """The values of a parameter: its choices, or what is known under its name."""
    if isinstance(of, list):
        return dict.fromkeys(of, "")
    return _KNOWN[of]() if of in _KNOWN else {}


def _users() -> Items:
    from lykke_cli.infrastructure.files.recent import users

    return users()


def _activity_types() -> Items:
    from lykke_cli.infrastructure.files.recent import activity_types

    return dict.fromkeys((*activity_types(), *ACTIVITY_TYPES), "")


def _profiles() -> Items:
    from lykke_cli.domain.errors import LykkeError
    from lykke_cli.infrastructure.configuration.profiles import Profiles

    try:
        profiles = Profiles.read().by_name.values()
    except LykkeError:
        return {}
    return {profile.name: "protected" if profile.protected else "" for profile in profiles}


def _topics() -> Items:
    from lykke_cli.cli.arguments.topics import TOPICS

    commands = orjson.loads(TABLE.read_bytes())["commands"]
    return dict.fromkeys(TOPICS, "") | {name: below["help"] for name, below in commands.items()}


_KNOWN: dict[str, Callable[[], Items]] = {
    "user": _users,
    "users": _users,
    "activity_type": _activity_types,
    "exclude": _activity_types,
    "channels": lambda: dict.fromkeys(CHANNEL_TYPES, ""),
    "channel": lambda: dict.fromkeys(CHANNEL_TYPES, ""),
    "profile": _profiles,
    "name": _profiles,
    "topic": _topics,
}


def _beginning(start: str, items: Items) -> Items:
    return {value: text for value, text in items.items() if value.startswith(start)}


def _split(line: str) -> tuple[list[str], str]:
    words = _WORD.findall(line)[1:]
    begun = words.pop() if words and not line[-1:].isspace() else ""
    return words, begun


def _for_zsh(value: str, help_: str) -> str:
    """Without what a shell would act on: the answer is evaluated there."""
    parts = [value, help_] if help_ else [value]
    return ":".join(f'"{part.translate(_HARMLESS_IN_ZSH)}"' for part in parts)
