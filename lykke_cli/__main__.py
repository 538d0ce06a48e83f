"""`lykke` and `python -m lykke_cli`."""

import os
import sys


def main() -> int:
    """Run the command line; returns the exit code."""
    from lykke_cli.application.errors import OutputFailed
    from lykke_cli.cli.output import standard_streams

    try:
        standard_streams.install()
        status = _run()
        sys.stdout.flush()
        return status
    except KeyboardInterrupt:  # while it was still being imported
        return 130
    except standard_streams.OutputClosed:
        return 0
    except OutputFailed as error:
        sys.stderr.write(f"lykke: {error}\n")
        return 5
    finally:
        standard_streams.finish()


def _run() -> int:
    if not os.path.isabs(os.path.expanduser("~")):
        os.environ["HOME"] = "/"  # as containers have it for a user id that nobody knows
    if sys.argv[1:] == ["--version"]:  # answered before the command line is even built
        from lykke_cli._version import __version__

        sys.stdout.write(f"lykke {__version__}\n")
        return 0
    if "_LYKKE_COMPLETE" in os.environ:  # so is a shell's Tab
        from lykke_cli.cli.arguments.completion import answer

        if (answered := answer(os.environ)) is not None:
            sys.stdout.buffer.write(answered[0].encode() + b"\n")
            return answered[1]
    from lykke_cli.cli.app import run

    return run(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
