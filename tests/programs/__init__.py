"""Programs that tests run as processes of their own: linted and typed like everything else."""

import sys
from pathlib import Path


def program(name: str, folder: Path = Path(__file__).parent) -> list[str]:
    """The words that run `name`.py of the folder, whatever the working directory is."""
    return [sys.executable, "-P", str(folder / f"{name}.py")]
