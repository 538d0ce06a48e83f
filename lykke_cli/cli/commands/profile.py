"""`lykke profile`: named places to work on, and how output looks there."""

import os
import sys
from collections.abc import Iterable
from typing import Annotated, Any

import typer

from lykke_cli.application.errors import UsageMistake
from lykke_cli.cli.arguments import options
from lykke_cli.cli.arguments.plain_help import PlainCommand, PlainGroup, leading_with
from lykke_cli.cli.output.sanitize import visible
from lykke_cli.cli.output.standard_streams import say
from lykke_cli.cli.output.terminal import ColorChoice, Output
from lykke_cli.infrastructure.configuration.profiles import NAME, Profile, Profiles, bad_name
from lykke_cli.infrastructure.configuration.settings import VARIABLES, Settings, choose_profile
from lykke_cli.infrastructure.configuration.transport import Transport

app = typer.Typer(cls=PlainGroup, help="Name the servers you work on.", no_args_is_help=True)
EPILOG = options.examples(
    "lykke profile add local --redis-url redis://localhost:6379 --use",
    "lykke profile use local",
    "lykke profile show",
)
_URLS = (*VARIABLES, "bridge_url")
JsonOutput = Annotated[bool, typer.Option("--json", help="Print as JSON.")]
Name = Annotated[
    str,
    typer.Argument(metavar="NAME", help="The profile's name."),
]


@app.command(
    "list",
    cls=PlainCommand,
    epilog=options.examples(
        "lykke profile list", "lykke profile list --json", "lykke profile list --json | jq ."
    ),
)
def list_profiles(json_output: JsonOutput = False) -> None:
    """List the profiles; * marks the current one."""
    profiles = Profiles.read()
    rows: list[dict[str, Any]] = [
        {
            "name": profile.name,
            "current": profile.name == profiles.current,
            "protected": profile.protected,
            **{key: _url(profile, key) for key in _URLS},
        }
        for profile in profiles.by_name.values()
    ]
    if json_output:
        _print_json(rows)
    elif not rows:
        say(
            f"no profile yet in {profiles.path}; "
            "make one with: lykke profile add NAME --redis-url URL"
        )
    else:
        _print_columns(
            [
                "* " + row["name"] if row["current"] else "  " + row["name"],
                *(row[key] or "-" for key in _URLS),
                "protected" if row["protected"] else "",
            ]
            for row in rows
        )


@app.command(
    "show",
    cls=PlainCommand,
    epilog=options.examples(
        "lykke profile show", "lykke profile show prod", "lykke profile show --json"
    ),
)
def show_profile(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME",
            help="The profile's name; without it, the one in effect.",
            show_default=False,
        ),
    ] = None,
    json_output: JsonOutput = False,
) -> None:
    """Show the settings in effect and where each comes from; passwords stay hidden."""
    chosen = choose_profile(os.environ, name)
    settings: dict[str, tuple[Any, str]] = {key: _server(name, key) for key in VARIABLES}
    settings["transport"] = _transport(name)
    values = {} if chosen is None else chosen.values
    if chosen is not None and chosen.has("bridge_url"):
        settings["bridge_url"] = (_url(chosen, "bridge_url"), f"profile {chosen.name}")
    defaults = {"output": None, "color": "auto", "utc": False, "protected": False}
    for key, default in defaults.items():
        source = f"profile {chosen.name}" if chosen and key in values else "default"
        settings[key] = (values.get(key, default), source)
    if chosen is not None:
        for command, given in chosen.options.items():
            for key, value in given.items():
                settings[f"{command}.{key}"] = (value, f"profile {chosen.name}")
    if json_output:
        shown = {key: {"value": value, "source": s} for key, (value, s) in settings.items()}
        _print_json({"profile": chosen and chosen.name, **shown})
        return
    _print_columns(
        [
            ["profile", str(Profiles.read().path), "-" if chosen is None else chosen.name],
            *([key, source, _text(value)] for key, (value, source) in settings.items()),
        ]
    )


@app.command(
    "use",
    cls=PlainCommand,
    epilog=options.examples(
        "lykke profile use prod", "lykke profile use --none", "lykke profile show"
    ),
)
def use_profile(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME",
            help="The profile's name.",
            show_default=False,
        ),
    ] = None,
    none: Annotated[bool, typer.Option("--none", help="Use no profile.")] = False,
) -> None:
    """Make a profile the current one: it applies where no other is named."""
    if (name is None) != none:
        raise UsageMistake("Give the NAME of a profile, or --none for no profile.")
    profiles = Profiles.read()
    if name is not None:
        profiles.get(name, "profile use")
    profiles.use(name)
    say("no profile is in use now" if name is None else f"{name} is the current profile now")


@app.command(
    "add",
    cls=leading_with("--redis-url", "--database-url", "--bridge-url", "--use", "--replace"),
    epilog=options.examples(
        "lykke profile add local --redis-url redis://localhost:6379 --use",
        "lykke profile add prod --redis-url '${PROD_REDIS_URL}' --protected --replace",
        "lykke profile add desk --bridge-url https://bridge.example",
    ),
)
def add_profile(
    name: Name,
    redis_url: Annotated[
        str | None,
        typer.Option(
            "--redis-url", metavar="URL", help="Redis; may hold ${VARIABLE}.", show_default=False
        ),
    ] = None,
    transport: Annotated[
        Transport | None,
        options.server_option("--transport", metavar="HOW", help="How messages travel by Redis."),
    ] = None,
    database_url: Annotated[
        str | None,
        typer.Option(
            "--database-url",
            metavar="URL",
            help="The database; may hold ${VARIABLE}.",
            show_default=False,
        ),
    ] = None,
    bridge_url: Annotated[
        str | None,
        typer.Option(
            "--bridge-url",
            metavar="URL",
            help="A bridge that lykke tail follows through, in place of both; may hold "
            "${VARIABLE}.",
            show_default=False,
        ),
    ] = None,
    output: Annotated[
        Output | None,
        options.output_option("--output", "-o", metavar="FORM", help="The form of the output."),
    ] = None,
    color: Annotated[
        ColorChoice | None, options.output_option("--color", metavar="WHEN", help="Colours.")
    ] = None,
    utc: Annotated[bool, options.output_option("--utc", help="Times in UTC.")] = False,
    protected: Annotated[
        bool,
        options.server_option("--protected", help="Ask before anything is published or recorded."),
    ] = False,
    use: Annotated[bool, typer.Option("--use", help="Make it the current one.")] = False,
    replace: Annotated[
        bool,
        typer.Option("--replace", help="Change one of the same name; what is not given stays."),
    ] = False,
) -> None:
    """Add a profile to the configuration file."""
    if not NAME.fullmatch(name):
        raise UsageMistake(f"No profile was added: {bad_name(name)}.")
    profiles = Profiles.read()
    if name in profiles.by_name and not replace:
        raise UsageMistake(f"There is a profile {name!r} already: give --replace to change it.")
    given = {
        "redis_url": redis_url,
        "transport": transport and transport.value,
        "database_url": database_url,
        "bridge_url": bridge_url,
        "output": output and output.value,
        "color": color and color.value,
        "utc": utc or None,
        "protected": protected or None,
    }
    values = {key: value for key, value in given.items() if value is not None}
    for key in {*_URLS} & values.keys():
        if "${" not in str(values[key]):
            _display(key, str(values[key]))
    profiles.add(name, values)
    if use:
        Profiles.read().use(name)
    use_it = f"--profile {name} uses it" if not use else "it is the current one"
    say(f"wrote {name} to {profiles.path}; {use_it}")


@app.command(
    "remove",
    cls=PlainCommand,
    epilog=options.examples(
        "lykke profile remove prod", "lykke profile list", "lykke profile use --none"
    ),
)
def remove_profile(name: Name) -> None:
    """Remove a profile from the configuration file."""
    profiles = Profiles.read()
    profiles.get(name, "profile remove")
    profiles.remove(name)
    say(f"removed {name} from {profiles.path}")


def _url(profile: Profile, key: str) -> str | None:
    """A profile's URL without its password, or why there is none."""
    try:
        server = profile.url(key, os.environ)
        return None if server is None else _display(key, server.url)
    except UsageMistake as mistake:
        return f"({mistake})"


def _server(name: str | None, key: str) -> tuple[str | None, str]:
    """The URL in effect, shown likewise, and where it came from."""
    source = "-"
    try:
        settings = Settings.resolve(os.environ, profile=name, needs=(key,))
        source = settings.sources.get(key, "default")
        say(*settings.notices)
        url = settings.redis_url if key == "redis_url" else settings.database_url
        return (None if url is None else _display(key, url)), source
    except UsageMistake as mistake:
        return f"({mistake})", source


def _transport(name: str | None) -> tuple[str, str]:
    """The transport in effect, and where it came from."""
    from lykke_cli.infrastructure.redis.urls import parse_redis_url

    try:
        settings = Settings.resolve(os.environ, profile=name, needs=("redis_url",))
        transport = parse_redis_url(settings.redis_url).transport
    except UsageMistake as mistake:
        return f"({mistake})", "-"
    beside = settings.sources.get("transport")
    of_url = settings.sources.get("redis_url", "") if "transport=" in settings.redis_url else ""
    return transport.value, beside or of_url or "default"


def _display(key: str, url: str) -> str:
    if key == "redis_url":
        from lykke_cli.infrastructure.redis.urls import display_url
    elif key == "database_url":
        from lykke_cli.infrastructure.database.urls import display_url
    else:
        from lykke_cli.infrastructure.configuration.bridge import parse_bridge_url

        return parse_bridge_url(url).url
    return display_url(url)


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return "-" if value is None else str(value)


def _print_columns(rows: Iterable[list[str]]) -> None:
    cells = [[visible(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        sys.stdout.write(line.rstrip() + "\n")


def _print_json(value: object) -> None:
    import orjson

    options.terminal().write_json(orjson.dumps(value, option=orjson.OPT_INDENT_2))
