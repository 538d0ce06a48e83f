"""The keys that all workers share are read, or refused without being shown."""

from pathlib import Path

import pytest

from lykke_cli.application.errors import UsageMistake
from lykke_cli.infrastructure.configuration.cursor_key import cursor_keys

ONE, OTHER = "0a" * 32, "FF" * 32


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (ONE, (b"\n" * 32,)),
        (f" {ONE} , {OTHER}\n", (b"\n" * 32, b"\xff" * 32)),
    ],
)
@pytest.mark.parametrize("in_file", [False, True])
def test_one_key_or_several(
    tmp_path: Path, text: str, expected: tuple[bytes, ...], in_file: bool
) -> None:
    environ = {"LYKKE_CURSOR_KEY": text}
    if in_file:
        path = tmp_path / "key"
        path.write_text(text)
        environ = {"LYKKE_CURSOR_KEY_FILE": str(path)}
    assert cursor_keys(environ) == expected


@pytest.mark.parametrize("environ", [{}, {"LYKKE_CURSOR_KEY": " "}])
def test_without_one_the_process_makes_its_own(environ: dict[str, str]) -> None:
    assert cursor_keys(environ) is None


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("s3cret", "key 1 is not 64 hexadecimal digits"),
        (ONE[:-1], "key 1 is not"),
        (f"{ONE},{'zz' * 32}", "key 2 is not"),
        (f"{ONE},", "key 2 is not"),
        ("0a " * 21 + "0", "key 1 is not"),  # `bytes.fromhex` passes over spaces
        ("\uff10a" * 32, "key 1 is not"),
        (f"{ONE},{ONE.upper()}", "the same key twice"),
    ],
)
def test_a_malformed_one_is_refused_and_not_shown(text: str, problem: str) -> None:
    with pytest.raises(UsageMistake) as caught:
        cursor_keys({"LYKKE_CURSOR_KEY": text})
    assert problem in str(caught.value) and "LYKKE_CURSOR_KEY" in str(caught.value)
    assert not [key for key in text.split(",") if key and key in str(caught.value)]
    assert caught.value.__cause__ is None and caught.value.__context__ is None
