"""`lykke` and `python -m lykke_cli`."""

import os
import sys


def main() -> int:
    """Run the command line; returns the exit code."""
    try:
        if sys.argv[1:] == ["--version"] and _has_told_version():
            return 0
        from lykke_cli.cli.starting import ending_at_once

        with ending_at_once():
            return _run_on_streams()
    except KeyboardInterrupt:  # between two things that a command does
        return 130
    except Exception as error:
        if "--debug" in sys.argv:
            raise
        _complain(f"It cannot start: {error}. Is it installed with all that it needs?")
        return 1


def _has_told_version() -> bool:
    """Before anything else is imported; False where stdout does not take it at once."""
    from lykke_cli._version import __version__

    line = f"lykke {__version__}\n".encode()
    try:
        return sys.stdout is not None and os.write(1, line) == len(line)
    except OSError:
        return False


def _run_on_streams() -> int:
    from lykke_cli.application.errors import OutputFailed
    from lykke_cli.cli.output import standard_streams

    try:
        standard_streams.install()
        status = _run()
        sys.stdout.flush()
        return status
    except standard_streams.OutputClosed:
        return 0
    except OutputFailed as error:
        _complain(str(error))
        return 5
    finally:
        standard_streams.finish()


def _complain(text: str) -> None:
    if sys.stderr is not None:
        sys.stderr.write(f"lykke: {' '.join(text.split())}\n")


def _run() -> int:
    if not os.path.isabs(os.path.expanduser("~")):
        os.environ["HOME"] = "/"  # as containers have it for a user id that nobody knows
    if "_LYKKE_COMPLETE" in os.environ:  # answered before the command line is even built
        from lykke_cli.cli.arguments.completion import answer

        if (answered := answer(os.environ)) is not None:
            sys.stdout.buffer.write(answered[0].encode() + b"\n")
            return answered[1]
    from lykke_cli.cli.app import run

    return run(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
