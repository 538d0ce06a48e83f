"""`lykke` and `python -m lykke_cli`."""

import os
import sys


def main() -> int:
    """Run the command line; returns the exit code."""
    if sys.argv[1:] == ["--version"]:  # answered before the command line is even built
        from lykke_cli._version import __version__

        sys.stdout.write(f"lykke {__version__}\n")
        return 0
    if "_LYKKE_COMPLETE" in os.environ:  # so is a shell's Tab
        from lykke_cli.cli.completion import answer

        if (answered := answer(os.environ)) is not None:
            sys.stdout.buffer.write(answered[0].encode() + b"\n")
            return answered[1]
    try:
        from lykke_cli.cli.app import run

        return run(sys.argv[1:])
    except KeyboardInterrupt:  # while it was still being imported
        return 130


if __name__ == "__main__":
    sys.exit(main())
