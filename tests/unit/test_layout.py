"""The folders are what CONTRIBUTING.md says they are."""

from pathlib import Path

import pytest

import lykke_cli

PACKAGE = Path(lykke_cli.__file__).parent
TESTS = Path(__file__).parents[1]
MIRRORS = {
    "unit": PACKAGE,
    "integration": PACKAGE,
    "cli": PACKAGE / "cli",
}
MOST_LINES = 450


def mirrored() -> list[tuple[str, Path, Path]]:
    """Every test in a folder of the package's, and the module that it should be of."""
    found = []
    for kind, package in MIRRORS.items():
        for test in sorted((TESTS / kind).rglob("test_*.py")):
            folder = test.parent.relative_to(TESTS / kind)
            if folder.parts:
                module = package / folder / test.name.removeprefix("test_")
                found.append((str(test.relative_to(TESTS)), test, module))
    return found


@pytest.mark.parametrize("module", [pytest.param(m, id=name) for name, _, m in mirrored()])
def test_the_test_of_a_module_is_found_by_its_path(module: Path) -> None:
    assert module.exists() or module.with_suffix(".js").exists()


@pytest.mark.parametrize(
    "folder",
    [
        pytest.param(folder, id=str(folder.relative_to(PACKAGE)))
        for folder in sorted(path.parent for path in PACKAGE.rglob("__init__.py"))
    ],
)
def test_every_folder_says_what_belongs_in_it(folder: Path) -> None:
    sentences = (folder / "__init__.py").read_text().split('"""')[1]
    assert sentences.strip().endswith(".")
    assert not [path.name for path in folder.glob("*") if path.stem in ("utils", "helpers", "base")]


def test_no_module_grows_beyond_what_one_reads_at_a_sitting() -> None:
    modules = [*PACKAGE.rglob("*.py"), *PACKAGE.rglob("*.js")]
    lengths = {p.relative_to(PACKAGE): len(p.read_text().splitlines()) for p in modules}
    assert not {path: lines for path, lines in lengths.items() if lines > MOST_LINES}
