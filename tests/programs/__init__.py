"""Programs that tests run as processes of their own: linted and typed like everything else."""

import sys
from pathlib import Path


def program(name: str) -> list[str]:
    """The words that run tests/programs/`name`.py, whatever the working directory is."""
    return [sys.executable, "-P", str(Path(__file__).with_name(f"{name}.py"))]
