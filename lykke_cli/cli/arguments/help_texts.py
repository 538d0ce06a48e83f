"""What the help texts of several options are made of, and the groups that options stand in."""

from functools import partial

import typer

RANGE, FILTERS, OUTPUT = "Begin and end", "Filters", "Output"
RELIABILITY, SERVERS = "Reliability", "Servers"
GROUPS = (RANGE, FILTERS, OUTPUT, RELIABILITY, SERVERS)
"""The groups below the options that lead, in the order of the help."""

range_option = partial(typer.Option, rich_help_panel=RANGE, show_default=False)
filter_option = partial(typer.Option, rich_help_panel=FILTERS, show_default=False)
output_option = partial(typer.Option, rich_help_panel=OUTPUT, show_default=False)
reliability_option = partial(typer.Option, rich_help_panel=RELIABILITY, show_default=False)
server_option = partial(typer.Option, rich_help_panel=SERVERS, show_default=False)


def env(variable: str) -> str:
    """The mark of an environment variable in a help text."""
    return f"[env: {variable}]"


def examples(*lines: str) -> str:
    """The examples of a command's help; USER_ID in them becomes one."""
    shown = [line.replace("USER_ID", "3f2b8c1e-5d7a-4b9c-9e1f-0a6d2c4b8e10") for line in lines]
    return "\n".join(["Examples:", *shown])
