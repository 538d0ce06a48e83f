"""The command line, and the one place where errors become exit codes."""

import os
import sys
import traceback
from typing import Annotated

import typer

from lykke_cli._version import __version__
from lykke_cli.cli import options
from lykke_cli.cli.commands import (
    backfill,
    channels,
    demo,
    doctor,
    expect,
    profile,
    publish,
    record,
    stats,
    tail,
    users,
)
from lykke_cli.cli.exit_codes import ExitCode, Stopped, exit_code_of
from lykke_cli.cli.quick_parameters import quicken
from lykke_cli.cli.sanitize import visible
from lykke_cli.cli.terminal import OutputClosed
from lykke_cli.domain.errors import LykkeError

app = typer.Typer(
    name="lykke",
    help="Follow, publish and recover a user's audit log.\n\n"
    "New here? `lykke demo` shows it all, with nothing to configure.",
    epilog=options.examples("lykke tail USER_ID --since 15m", "lykke tail --help"),
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"lykke {__version__}")
        raise typer.Exit


@app.callback()
def lykke(
    debug: Annotated[
        bool, typer.Option("--debug", help="Show tracebacks and log in detail.")
    ] = False,
    version: Annotated[
        bool,
        typer.Option("--version", help="Print the version.", callback=_version, is_eager=True),
    ] = False,
) -> None:
    """Options of every command."""
    if debug:
        import logging

        logging.basicConfig(level=logging.DEBUG, stream=sys.stderr)


_READ, _WRITE, _SET_UP = "Follow and recover", "Write", "Set up and try"
app.command("tail", epilog=tail.EPILOG, rich_help_panel=_READ)(tail.tail)
app.command("backfill", epilog=backfill.EPILOG, rich_help_panel=_READ)(backfill.backfill)
app.command("expect", epilog=expect.EPILOG, rich_help_panel=_READ)(expect.expect)
app.command("stats", epilog=stats.EPILOG, rich_help_panel=_READ)(stats.stats)
app.command("users", epilog=users.EPILOG, rich_help_panel=_READ)(users.users)
app.command("channels", epilog=channels.EPILOG, rich_help_panel=_READ)(channels.channels)
app.command("publish", epilog=publish.EPILOG, rich_help_panel=_WRITE)(publish.publish)
app.command("record", epilog=record.EPILOG, rich_help_panel=_WRITE)(record.record)
app.command("doctor", epilog=doctor.EPILOG, rich_help_panel=_SET_UP)(doctor.doctor)
app.command("demo", epilog=demo.EPILOG, rich_help_panel=_SET_UP)(demo.demo)
app.add_typer(
    profile.app,
    name="profile",
    help="Name the servers you work on.",
    epilog=profile.EPILOG,
    rich_help_panel=_SET_UP,
)


def run(arguments: list[str]) -> int:
    """Run one command; every way it can end becomes an exit code, and at most one line."""
    try:
        command = typer.main.get_command(app)
        quicken(command)
        status = command(arguments, prog_name="lykke", standalone_mode=False)
        sys.stdout.flush()
        return status or ExitCode.DONE  # typer gives a code for Ctrl-C outside our own handling
    except typer.Exit as stop:
        return stop.exit_code
    except (KeyboardInterrupt, typer.Abort):
        return ExitCode.INTERRUPTED
    except Stopped as stopped:
        return stopped.exit_code
    except typer.TyperException as mistake:
        return _usage(mistake)
    except (BrokenPipeError, OutputClosed):
        # Whoever read our output has enough. What is left in the buffer must not complain at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.DONE
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
        sys.stderr.write(mistake.format_message() + "\n")
        return ExitCode.USAGE
    command = "lykke" if context is None else context.command_path
    _complain(f"{_meant(mistake)} (see {command} --help)")
    return ExitCode.USAGE


def _meant(mistake: typer.TyperException) -> str:
    """What is wrong, and what was probably meant."""
    if possibilities := getattr(mistake, "possibilities", None):
        return f"{mistake.message}. Did you mean {' or '.join(sorted(possibilities))}?"
    return mistake.format_message().replace("Value error, ", "")  # pydantic's word for it


def visible_lines(text: str) -> str:
    """Several lines made harmless one by one."""
    return "".join(visible(line) + "\n" for line in text.splitlines())


def _complain(text: str) -> None:
    sys.stderr.write(f"lykke: {visible(' '.join(text.split()))}\n")
    sys.stderr.flush()
