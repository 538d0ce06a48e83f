"""Values of options that need no validation are taken without importing Pydantic.

Typer validates every value with Pydantic, whose import is a quarter of the time that `lykke tail`
takes to be subscribed, and a fifth of its memory. Nearly all our values are texts, or parsed by our
own parsers. Whatever is not plainly right is left to Typer, and so are the messages about it.

This file leans on how Typer works inside: a parameter has `get_runtime_param()`,
whose answer has `coerce(value, param=..., ctx=...)`. Where a release has them no more, nothing is
replaced, and Typer validates everything.
"""

from enum import Enum
from typing import Any

from typer import Context

_NOT_PLAIN = object()


def quicken(command: Any, parent: Any = None) -> None:
    """Let the parameters of `command` and of its commands take plain values as they are."""
    context = Context(command, parent, **command.context_settings)
    for parameter in command.get_params(context):  # with --help, which Typer adds
        if hasattr(parameter, "get_runtime_param") and hasattr(parameter, "type_descriptor"):
            quick = _Quick(parameter)
            parameter.get_runtime_param = lambda quick=quick: quick
    for subcommand in getattr(command, "commands", {}).values():
        quicken(subcommand, context)


class _Quick:
    """Stands for what Typer would validate a parameter with."""

    def __init__(self, parameter: Any) -> None:
        self._parameter = parameter
        self._slow = parameter.get_runtime_param  # Typer's own, not made before it is needed

    def __getattr__(self, name: str) -> Any:
        return getattr(self._slow(), name)

    def coerce(self, value: Any, *arguments: Any, **named: Any) -> Any:
        try:
            taken = self._taken(value)
        except AttributeError:  # Typer's description of the parameter is of another shape
            taken = _NOT_PLAIN
        return self._slow().coerce(value, *arguments, **named) if taken is _NOT_PLAIN else taken

    def _taken(self, value: Any) -> Any:
        descriptor = self._parameter.type_descriptor
        info, annotation = descriptor.parameter_info, descriptor.annotation
        is_list = self._parameter.multiple or self._parameter.nargs == -1
        if value is None:
            return () if is_list else None
        if info.parser is not None:
            return list(map(info.parser, value)) if is_list else info.parser(value)
        if annotation == list[str] and all(isinstance(item, str) for item in value):
            return list(value)
        if isinstance(annotation, type):
            if isinstance(value, annotation):
                return value
            if issubclass(annotation, Enum) and value in [member.value for member in annotation]:
                return annotation(value)
            if annotation is int and value.isascii() and value.isdigit():
                number = int(value[:18])
                if str(number) == value and number >= (info.min or 0) and info.max is None:
                    return number
        return _NOT_PLAIN
