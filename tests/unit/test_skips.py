"""No test is left out in silence."""

import os
import subprocess
import sys
from pathlib import Path

from tests.conftest import ALLOWED_SKIPS

LISTED = next(line for line in ALLOWED_SKIPS.read_text("utf-8").split("\n") if line[:1] not in "#")
TESTS = f"""
import pytest
@pytest.mark.skip({LISTED!r})
def test_allowed(): pass
@pytest.mark.skip("no time")
def test_forbidden(): pass
"""
MODULE = "import pytest\npytest.skip('no mood', allow_module_level=True)\n"


def test_a_skip_is_a_failure_in_ci_unless_its_reason_is_listed(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(TESTS)
    (tmp_path / "test_module.py").write_text(MODULE)
    options = ["-p", "tests.conftest", "-c", os.devnull, "--rootdir", os.getcwd()]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--continue-on-collection-errors", *options, tmp_path],
        env=os.environ | {"CI": "true"},
        capture_output=True,
        text=True,
    )
    assert "1 skipped, 2 errors" in done.stdout
    for reason in ("no time", "no mood"):
        assert f"Skipped, for a reason not on allowed_skips.txt: {reason}" in done.stdout
