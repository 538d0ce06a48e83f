"""A secret from the environment or a file: read whole, never shown, and told of when it is open."""

from pathlib import Path

import pytest

from lykke_cli.application.errors import UsageMistake
from lykke_cli.infrastructure.configuration.secret import LONGEST_SECRET, Secret, secret_of

CANARY = "s3cret-canary"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "secret"
    path.touch(mode=0o600)
    return path


def secret(environ: dict[str, str]) -> Secret:
    found = secret_of(environ, "LYKKE_X")
    assert found is not None
    return found


@pytest.mark.parametrize("environ", [{}, {"LYKKE_X": " "}, {"LYKKE_X_FILE": ""}])
def test_what_is_not_set_is_none(environ: dict[str, str]) -> None:
    assert secret_of(environ, "LYKKE_X") is None


def test_it_is_what_the_variable_holds() -> None:
    assert secret({"LYKKE_X": CANARY}) == Secret(CANARY, "LYKKE_X")


def test_it_is_what_the_file_holds_without_the_line_end(file: Path) -> None:
    file.write_text(f"{CANARY}\n")
    assert secret({"LYKKE_X_FILE": str(file)}) == Secret(CANARY, "LYKKE_X_FILE")


def test_a_file_that_others_may_read_is_told_of(file: Path) -> None:
    file.write_text(CANARY)
    file.chmod(0o644)
    (notice,) = secret({"LYKKE_X_FILE": str(file)}).notices
    assert notice.endswith(f"others may read it: chmod 600 {file}")


def test_it_is_never_part_of_a_text() -> None:
    assert CANARY not in repr(secret({"LYKKE_X": CANARY}))


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "is empty"),
        (b" \n", "is empty"),
        (b"\xff" + CANARY.encode(), "is not text"),
        (CANARY.encode() + b"x" * LONGEST_SECRET, "has more than 64 KiB"),
    ],
)
def test_a_file_that_holds_none_is_a_mistake(file: Path, content: bytes, problem: str) -> None:
    file.write_bytes(content)
    with pytest.raises(UsageMistake, match=f"LYKKE_X_FILE: .*{problem}") as refusal:
        secret({"LYKKE_X_FILE": str(file)})
    assert CANARY not in str(refusal.value)


@pytest.mark.parametrize("path", ["missing", ".", "a\0b"])
def test_a_file_that_cannot_be_read_is_a_mistake(tmp_path: Path, path: str) -> None:
    with pytest.raises(UsageMistake, match="LYKKE_X_FILE"):
        secret({"LYKKE_X_FILE": str(tmp_path / path)})


def test_two_sources_are_a_mistake(file: Path) -> None:
    with pytest.raises(UsageMistake, match="LYKKE_X and LYKKE_X_FILE are both set"):
        secret({"LYKKE_X": CANARY, "LYKKE_X_FILE": str(file)})
