"""The command line, and the one place where errors become exit codes."""

import os
import sys
import traceback
from collections.abc import Callable, Iterable
from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer

from lykke_cli._version import __version__
from lykke_cli.cli.arguments import options
from lykke_cli.cli.arguments.plain_help import PlainGroup, flowing, leading_with
from lykke_cli.cli.arguments.profile_defaults import ProfiledCommand
from lykke_cli.cli.arguments.quick_parameters import quicken
from lykke_cli.cli.exit_codes import ExitCode, Stopped, exit_code_of
from lykke_cli.cli.output.sanitize import visible
from lykke_cli.cli.output.standard_streams import OutputClosed, say
from lykke_cli.domain.errors import LykkeError
from lykke_cli.infrastructure.configuration.profiles import CONFIG

_READ, _WRITE, _SET_UP = "Follow and recover", "Write", "Set up and try"
COMMANDS = {  # each in the module of its name, in the order and under the title of the help
    "tail": _READ,
    "backfill": _READ,
    "consume": _READ,
    "show": _READ,
    "expect": _READ,
    "stats": _READ,
    "users": _READ,
    "channels": _READ,
    "groups": _READ,
    "serve": _READ,
    "relay": _READ,
    "publish": _WRITE,
    "record": _WRITE,
    "doctor": _SET_UP,
    "demo": _SET_UP,
    "profile": _SET_UP,
    "help": _SET_UP,
}


def make_app(names: Iterable[str] = COMMANDS) -> typer.Typer:
    """The command line with the commands of these names: one alone takes a third of the time."""
    app = typer.Typer(
        name="lykke",
        cls=PlainGroup,
        help="Follow, publish and recover a user's audit log.\n\n"
        "New here? `lykke demo` shows it all, with nothing to configure.",
        epilog=options.examples(
            "lykke tail USER_ID --since 15m",
            "lykke help tail",
            "lykke help times",
        ),
        no_args_is_help=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={
            "help_option_names": ["-h", "--help"],
            "token_normalize_func": options.own_name,
        },
    )
    app.callback()(lykke)
    for name in names:
        module = import_module(f"lykke_cli.cli.commands.{name}")
        panel = COMMANDS[name]
        if isinstance(group := getattr(module, "app", None), typer.Typer):
            app.add_typer(group, name=name, epilog=module.EPILOG, rich_help_panel=panel)
        else:
            command = getattr(module, name)
            app.command(
                name,
                cls=leading_with(*getattr(module, "LEADING", ()), kind=ProfiledCommand),
                help=flowing(command.__doc__),
                epilog=module.EPILOG,
                rich_help_panel=panel,
            )(command)
    return app


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"lykke {__version__}")
        raise typer.Exit


def lykke(
    debug: Annotated[
        bool, typer.Option("--debug", help="Show tracebacks and log in detail.")
    ] = False,
    config: Annotated[
        Path | None,
        typer.Option(
            "--config",
            metavar="FILE",
            help=f"The file with the profiles, in place of your own. {options.env(CONFIG)}",
            show_default=False,
        ),
    ] = None,
    no_defaults: Annotated[
        bool,
        typer.Option("--no-defaults", help="Take no option of a command from its profile."),
    ] = False,
    version: Annotated[
        bool,
        typer.Option("--version", help="Print the version.", callback=_version, is_eager=True),
    ] = False,
) -> None:
    """Options of every command; they stand before its name."""
    if config is not None:
        os.environ[CONFIG] = str(config)
    if debug:
        from lykke_cli.cli.runtime import log_in_detail

        log_in_detail()


_PLAIN_WORDS = {  # for those of Typer and Pydantic
    "Value error, ": "",
    "Input should be a valid integer, unable to parse string as an integer": "not a whole number",
    "Input should be a valid number, unable to parse string as a number": "not a number",
    "Input should be greater than or equal to": "it must be at least",
    "Input should be less than or equal to": "it must be at most",
    "extra argument(s)": "extra argument",
}


def run(arguments: list[str]) -> int:
    """Run one command; every way it can end becomes an exit code, and at most one line."""
    at = _place_of_command(arguments)
    if arguments[at : at + 1] == ["help"] and {*arguments[at + 1 : at + 2]} <= COMMANDS.keys():
        arguments = [*arguments[:at], *arguments[at + 1 :], "--help"]
    status = _status_of(lambda: _run_command(arguments), arguments)
    return _status_of(sys.stdout.flush, arguments) or status


def _place_of_command(arguments: list[str]) -> int:
    """Behind the options of every command, of which --config has a value."""
    at = 0
    while at < len(arguments) and arguments[at].startswith("-"):
        at += 2 if arguments[at] == "--config" else 1
    return at


def _run_command(arguments: list[str]) -> int | None:
    at = _place_of_command(arguments)
    named = [word for word in arguments[at : at + 1] if word in COMMANDS]
    command = typer.main.get_command(make_app(named or COMMANDS))
    quicken(command)
    status: int | None = command(arguments, prog_name="lykke", standalone_mode=False)
    return status  # typer gives one for Ctrl-C outside our own handling


def _status_of(work: Callable[[], int | None], arguments: list[str]) -> int:
    try:
        return work() or ExitCode.DONE
    except typer.Exit as stop:
        return stop.exit_code
    except (KeyboardInterrupt, typer.Abort):
        return ExitCode.INTERRUPTED
    except Stopped as stopped:
        return stopped.exit_code
    except typer.TyperException as mistake:
        return _usage(mistake)
    except OutputClosed:
        return ExitCode.DONE  # whoever read our output has enough
    except LykkeError as error:
        return _fail(arguments, str(error), error)
    except Exception as error:
        text = f"This is a bug in lykke: {type(error).__name__}: {error}"
        return _fail(arguments, f"{text} (run again with --debug for the traceback)", error)


def _fail(arguments: list[str], text: str, error: Exception) -> int:
    if "--debug" in arguments:
        sys.stderr.write(visible_lines("".join(traceback.format_exception(error))))
    _complain(text)
    return exit_code_of(error)


def _usage(mistake: typer.TyperException) -> int:
    context = getattr(mistake, "ctx", None)
    if type(mistake).__name__ == "NoArgsIsHelpError":
        typer.echo(mistake.format_message(), err=True)
        return ExitCode.USAGE
    command = "lykke" if context is None else context.command_path
    hint = f"see {command} --help"
    if command == "lykke expect" and type(mistake).__name__ == "NoSuchOption":
        hint = f"-- stands before the command to run; {hint}"
    _complain(f"{_meant(mistake)} ({hint})")
    return ExitCode.USAGE


def _meant(mistake: typer.TyperException) -> str:
    """What is wrong, and what was probably meant."""
    if possibilities := getattr(mistake, "possibilities", None):
        return f"{mistake.message}. Did you mean {' or '.join(sorted(possibilities))}?"
    text = mistake.format_message()
    for theirs, ours in _PLAIN_WORDS.items():
        text = text.replace(theirs, ours)
    return text.removesuffix(".")


def visible_lines(text: str) -> str:
    """Several lines made harmless one by one."""
    return "".join(visible(line) + "\n" for line in text.splitlines())


def _complain(text: str) -> None:
    say(" ".join(text.split()))
