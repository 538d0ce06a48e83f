"""What is made from the code is current: `make completions man api` writes it anew."""

import importlib

import pytest


@pytest.mark.parametrize("name", ["api", "completions", "man"])
def test_generated_files_are_current(name: str) -> None:
    for path, text in importlib.import_module(f"tests.generators.{name}").files().items():
        assert path.read_text("utf-8") == text, f"{path} is not current: make {name}"
