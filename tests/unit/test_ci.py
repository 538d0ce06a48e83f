"""What `.ci/run` ends with: the fresh machine, or that it was left out."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

RUN = Path(__file__).parents[2] / ".ci" / "run"


def program(path: Path, script: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


@pytest.mark.parametrize(("user", "ends_with"), [(0, "fresh"), (1000, "SKIPPED: ")])
def test_a_fresh_machine_that_is_left_out_is_said(
    user: int, ends_with: str, tmp_path: Path
) -> None:
    program(tmp_path / ".ci" / "fresh", "echo fresh")
    program(tmp_path / "bin" / "make", 'echo "make $1"')
    program(tmp_path / "bin" / "id", f"echo {user}")
    run = shutil.copy(RUN, tmp_path / ".ci" / "run")
    env = {**os.environ, "PATH": f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        [run], env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=20
    )
    assert done.returncode == 0
    *others, last = done.stdout.splitlines()
    assert others == ["make check", "make lowest", "make nemesis"]
    assert last.startswith(ends_with)
