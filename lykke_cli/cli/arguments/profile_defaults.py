"""Options that a profile gives a command: `[profiles.staging.tail]` with `since = "15m"`.

They stand for what is not on the command line, and whatever is wrong with one is told with the
line that it is written in. What says where the servers are, and --yes, is not among them.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

from typer import TyperException
from typer.core import TyperCommand, TyperOption

from lykke_cli.application.errors import UsageMistake
from lykke_cli.cli.arguments.plain_help import PlainCommand, choices
from lykke_cli.infrastructure.configuration.profiles import Profile
from lykke_cli.infrastructure.configuration.settings import choose_profile

_NOT_HERE = {"redis_url", "transport", "database_url", "bridge_url", "profile", "yes"}
_EXCLUSIVE = (
    ({"all_users"}, {"user", "users"}),
    ({"resume"}, {"since", "last"}),
    ({"live_only"}, {"since", "last", "resume"}),
    ({"first"}, {"last"}),
    ({"tz"}, {"utc"}),
    ({"template"}, {"output", "columns"}),
    ({"to_file"}, {"output", "columns", "template", "first", "last"}),
    ({"in_order"}, {"activity_type", "count", "exactly", "none"}),
    ({"count"}, {"exactly", "none"}),
    ({"exactly"}, {"none"}),
)
"""Options that do not go together: of a profile those go that one on the command line excludes."""
_WITHOUT_COLUMNS = ("ndjson", "json", "raw")


@dataclass(frozen=True, slots=True)
class ProfileDefaults:
    """The options of a profile for one command, by the names of the parameters."""

    profile: Profile | None = None
    section: str = ""
    keys: Mapping[str, str] = field(default_factory=dict)
    """As each is spelt in the file."""
    values: Mapping[str, Any] = field(default_factory=dict)

    def without(self, given: Mapping[str, Any]) -> "ProfileDefaults":
        """What is left beside options that are `given` on the command line."""
        beaten = {*given}
        for some, others in _EXCLUSIVE:
            beaten |= others if some & given.keys() else set()
            beaten |= some if others & given.keys() else set()
        if given.get("output") in _WITHOUT_COLUMNS:
            beaten.add("columns")
        if os.environ.get("NO_COLOR"):  # as it beats the colour of the profile itself
            beaten.add("color")
        values = {name: value for name, value in self.values.items() if name not in beaten}
        return ProfileDefaults(self.profile, self.section, self.keys, values)

    def named_in(self, text: str) -> str:
        """What to add to a message about a mistake: where the options that it names were set."""
        if self.profile is None:
            return ""
        mistakes = [
            self.profile.mistake(key, repr(value), self.section)
            for name, value in self.values.items()
            for key in [self.keys[name]]
            if f"--{name.replace('_', '-')}" in text or (value and repr(value) in text)
        ]
        told = "; ".join(str(mistake).removesuffix(".") for mistake in mistakes)
        return f" ({told})" if told else ""


def read_defaults(command: TyperCommand, name: str, profile_name: str | None) -> ProfileDefaults:
    """What the profile in effect says for a command; raises UsageMistake."""
    profile = choose_profile(os.environ, profile_name)
    if profile is None or not profile.options:
        return ProfileDefaults()
    import orjson

    from lykke_cli.cli.arguments.completion import TABLE

    known = orjson.loads(TABLE.read_bytes())["commands"]
    for other in profile.options.keys() - known.keys():
        raise _unknown(profile, f".{other}", "", other, known)
    section = f".{name}"
    options = {
        option.removeprefix("--"): parameter
        for parameter in command.params
        if isinstance(parameter, TyperOption) and parameter.name not in _NOT_HERE
        for option in parameter.opts
        if option.startswith("--")
    }
    keys, values = {}, {}
    for key, value in profile.options.get(name, {}).items():
        parameter = options.get(key.replace("_", "-"))
        if parameter is None:
            raise _unknown(profile, section, key, key, options)
        try:
            values[str(parameter.name)] = _value(parameter, value)
        except ValueError as error:
            raise profile.mistake(key, str(error), section) from None
        keys[str(parameter.name)] = key
    return ProfileDefaults(profile, section, keys, values)


class ProfiledCommand(PlainCommand):
    """A command that takes from the profile in effect what is not on the command line."""

    _defaults = ProfileDefaults()

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        parsed, *_ = self.make_parser(ctx).parse_args(list(args))
        given = {name: value for name, value in parsed.items() if value is not None}
        takes_a_profile = any(parameter.name == "profile" for parameter in self.params)
        is_unwanted = given.get("help") or ctx.find_root().params.get("no_defaults")
        if takes_a_profile and not is_unwanted:
            defaults = read_defaults(self, ctx.info_name, given.get("profile"))
            self._defaults = defaults.without(given)
            ctx.default_map = self._defaults.values
        try:
            return super().parse_args(ctx, args)
        except TyperException as mistake:
            mistake.message += self._defaults.named_in(mistake.format_message())
            raise

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except UsageMistake as mistake:
            if where := self._defaults.named_in(str(mistake)):
                raise UsageMistake(f"{mistake}{where}") from mistake
            raise


def _value(parameter: TyperOption, value: Any) -> Any:
    """As the command line would give it; raises ValueError."""
    if parameter.is_flag:
        if not isinstance(value, bool):
            raise ValueError("it is true or false")
        return value
    several: Sequence[Any] = value if isinstance(value, list) else [value]
    is_fit = len(several) == 1 or parameter.multiple
    if any(isinstance(each, bool) for each in several) or not is_fit:
        raise ValueError("it is a text in quotes")
    texts = [str(each) for each in several]
    if (possible := choices(parameter)) and not {*texts} <= {*possible}:
        raise ValueError(f"it is one of {', '.join(possible)}")
    return texts if parameter.multiple else texts[0]


def _unknown(
    profile: Profile, section: str, key: str, typed: str, known: Iterable[str]
) -> UsageMistake:
    near = get_close_matches(typed.replace("_", "-"), known, n=1)
    remedy = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}"
    kind = "option" if key else "command"
    return profile.mistake(key, f"there is no such {kind}; {remedy}", section)
