"""Values of options that need no validation are taken without importing Pydantic.

Typer validates every value with Pydantic, whose import is a quarter of the time that `lykke tail`
takes to be subscribed, and a fifth of its memory. Nearly all our values are texts, or parsed by our
own parsers. Whatever is not plainly right is left to Typer, and so are the messages about it.
"""

from dataclasses import dataclass
from enum import Enum
from typing import Any

from typer._click import Context
from typer._click.core import Command
from typer._coercion import RuntimeParam, TypeDescriptor, build_runtime_param


def quicken(command: Command, parent: Context | None = None) -> None:
    """Let the parameters of `command` and of its commands take plain values as they are."""
    context = Context(command, parent, **command.context_settings)
    for parameter in command.get_params(context):
        descriptor = getattr(parameter, "type_descriptor", None)
        if isinstance(descriptor, TypeDescriptor) and hasattr(parameter, "_runtime_param"):
            parameter._runtime_param = _Quick(
                descriptor.parameter_info, descriptor.annotation, descriptor
            )
    for subcommand in getattr(command, "commands", {}).values():
        quicken(subcommand, context)


@dataclass(frozen=True)
class _Quick(RuntimeParam):
    descriptor: TypeDescriptor

    def _coerce_value(self, value: Any, param: Any, ctx: Context) -> Any:
        info, annotation = self.parameter_info, self.annotation
        if info.parser is not None:
            return info.parser(value)
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
        slow = build_runtime_param(self.descriptor)
        return slow._coerce_value(value, param=param, ctx=ctx)
