"""Values are taken quickly where Typer can be seen into, and as Typer does where it cannot."""

import inspect
import textwrap

import pytest
import typer.core

from lykke_cli.cli.arguments import quick_parameters
from tests.cli_process import call_lykke

USER = "9b2f0c1e-7a43-4d1f-8f2b-1c6a5d3e2f10"
NOWHERE = "sqlite:////nowhere/at/all.db"
ARGUMENTS = [
    ["tail", "nobody"],
    ["tail", USER, "-n", "-1"],
    ["tail", USER, "-o", "yaml"],
    ["users", "--limit", "two"],
    ["users", "--limit", "2", "--activity-type", "A", "-o", "csv", "--database-url", NOWHERE],
    ["backfill", USER, "--entity-id", "no id"],
    ["backfill", USER, "--utc", "--output", "ndjson", "--database-url", NOWHERE],
]


def rename_what_is_private(monkeypatch: pytest.MonkeyPatch) -> None:
    """Typer as it may be one day: the name that we know is another."""
    [owner] = [c for c in typer.core.TyperOption.__mro__ if "get_runtime_param" in vars(c)]
    source = textwrap.dedent(inspect.getsource(owner)).replace("get_runtime_param", "get_another")
    namespace = dict(vars(typer.core))
    exec(source, namespace)
    renamed = namespace[owner.__name__]
    monkeypatch.setattr(owner, "get_another", renamed.get_another, raising=False)
    monkeypatch.setattr(owner, "process_value", renamed.process_value)
    monkeypatch.delattr(owner, "get_runtime_param")


def change_what_it_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Typer as it may be one day: what describes a parameter has another shape."""

    def of_another_shape(self: object, value: object) -> object:
        raise AttributeError

    monkeypatch.setattr(quick_parameters._Quick, "_taken", of_another_shape)


@pytest.mark.parametrize("change", [rename_what_is_private, change_what_it_answers])
@pytest.mark.parametrize("arguments", ARGUMENTS, ids=" ".join)
def test_a_release_of_typer_that_is_another_inside_changes_nothing(
    change: object, arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = call_lykke(*arguments)
    assert callable(change)
    change(monkeypatch)
    assert call_lykke(*arguments) == before
    assert before.status in (2, 3)
