"""Help without the types of Python: a switch takes no <bool>, a USER_ID is no <User>."""

import sys
from types import ModuleType

from typer._click import Context, HelpFormatter
from typer._click.core import Command
from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption


class _PlainHelp(Command):
    def format_help(self, ctx: Context, formatter: HelpFormatter) -> None:
        _without_types(self, ctx)
        _import_formatter()
        super().format_help(ctx, formatter)


class PlainCommand(_PlainHelp, TyperCommand):
    """A command whose help says what a person types."""

    def collect_usage_pieces(self, ctx: Context) -> list[str]:
        pieces = super().collect_usage_pieces(ctx)
        return [p.strip("{}").replace("[[", "[").replace("]]...", "]") for p in pieces]


class PlainGroup(_PlainHelp, TyperGroup):
    """A group of commands likewise."""


def _import_formatter() -> None:
    """Import Typer's, without what it imports for uses that are not ours: a quarter of its time."""
    unused = {"rich.markdown": "Markdown", "rich.traceback": "Traceback"}
    unused = {module: name for module, name in unused.items() if module not in sys.modules}
    for module, name in unused.items():
        sys.modules[module] = ModuleType(module)
        setattr(sys.modules[module], name, type(name, (), {}))
    try:
        import typer.rich_utils  # noqa: F401
    finally:
        for module in unused:
            del sys.modules[module]


def _without_types(command: Command, context: Context) -> None:
    for parameter in command.get_params(context):
        if isinstance(parameter, TyperOption) and parameter.is_flag:
            parameter.metavar = ""
        elif isinstance(parameter, TyperArgument):
            parameter.display_type_rich = lambda ctx: None  # type: ignore[method-assign]


def flowing(text: str | None) -> str:
    """A docstring's paragraphs, each as one line, which help breaks where the terminal ends."""
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in (text or "").split("\n\n"))
