"""The completion scripts, and the table from which completion is answered."""

from pathlib import Path
from typing import Any

import orjson
from typer._completion_shared import get_completion_script
from typer.core import TyperArgument, TyperOption

from tests.generators import commands
from tests.generators.commands import Command

FOLDER = Path("completions")
TABLE = Path("lykke_cli/cli/arguments/completion_table.json")
_SCRIPTS = {
    "bash": "lykke.bash",
    "zsh": "_lykke",
    "fish": "lykke.fish",
    "powershell": "lykke.ps1",
}

# From a folder of functions zsh takes the file as the body of one, which has to answer each time.
_REGISTER = "compdef _lykke_completion lykke"
_ANSWER_OR_REGISTER = f"""\
if [[ $funcstack[1] == _lykke ]]; then
  _lykke_completion "$@"
else
  {_REGISTER}
fi"""


def files() -> dict[Path, str]:
    """What each file should hold."""
    scripts = {
        FOLDER / name: get_completion_script(
            prog_name="lykke", complete_var="_LYKKE_COMPLETE", shell=shell
        ).replace(_REGISTER, _ANSWER_OR_REGISTER)
        + "\n"
        for shell, name in _SCRIPTS.items()
    }
    table = orjson.dumps(_table(commands.lykke()), option=orjson.OPT_INDENT_2).decode() + "\n"
    return scripts | {TABLE: table}


def _table(command: Command) -> dict[str, Any]:
    return {
        "help": commands.first_sentence(command.command.help),
        "options": {
            name: {
                "help": commands.first_sentence(option.help),
                "value": None if option.is_flag else _value(command, option),
            }
            for option in command.options
            for name in commands.names(option)
        },
        "arguments": [_value(command, argument) for argument in command.arguments],
        "commands": {name: _table(below) for name, below in command.subcommands.items()},
    }


def _value(command: Command, parameter: TyperArgument | TyperOption) -> str | list[str]:
    """The parameter's choices, or the name under which its values are known."""
    items = parameter.shell_complete(command.context, "")
    choices = [item.value for item in items if item.type == "plain"]
    return choices or str(parameter.name)
