"""No cell of CSV does anything in a spreadsheet."""

import pytest

from lykke_cli.application.csv_rows import csv_cell


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n"])
def test_a_formula_becomes_text(start: str) -> None:
    assert csv_cell(f"{start}1+1") == f"'{start}1+1"


@pytest.mark.parametrize("text", ["", "task", "{}", "1-1", " =1"])
def test_other_cells_stay_as_they_are(text: str) -> None:
    assert csv_cell(text) == text
