"""Named profiles in the user's configuration file: where the servers are, how output looks.

A value may hold `${NAME}`, which the environment fills in, and a URL or its password may be kept in
a file of its own. Secrets are read only for the server that is asked for.
"""

import os
import re
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from lykke_cli.application.errors import OutputFailed, UsageMistake
from lykke_cli.infrastructure.configuration.secret import read_secret
from lykke_cli.infrastructure.configuration.transport import Transport
from lykke_cli.infrastructure.files.whole_file import replace_file

if TYPE_CHECKING:
    from tomlkit import TOMLDocument

CONFIG = "LYKKE_CONFIG"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")  # completion gives it to a shell as it is
CHOICES = {
    "output": ("table", "ndjson", "json", "csv", "raw"),
    "color": ("auto", "always", "never"),
    "transport": tuple(Transport),
}
_TEXTS = {
    *("redis_url", "redis_url_file", "redis_password_file"),
    *("database_url", "database_url_file", "database_password_file"),
    *("bridge_url", "bridge_token", "bridge_token_file"),
    *CHOICES,
}
_SWITCHES = {"utc", "protected"}
_FROM_ENVIRONMENT = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


def config_path() -> Path:
    """The configuration file, whether it exists or not: LYKKE_CONFIG, or the user's own."""
    if chosen := os.environ.get(CONFIG):
        return Path(chosen).expanduser()

    import platformdirs

    try:
        folder = Path(platformdirs.user_config_dir("lykke", appauthor=False))
    except RuntimeError:  # an unknown user without HOME
        folder = Path("/nonexistent/lykke")
    return folder / "config.toml"


@dataclass(frozen=True, slots=True)
class ServerUrl:
    """Where a server is, secrets included, and the files that the secrets came from."""

    url: str = field(repr=False)
    secret_files: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True)
class Profile:
    """One profile, checked; `mistake` makes an error that names the file and a key's line.

    It takes the key, what is wrong, and of a table below the profile's its name with a dot.
    """

    name: str
    path: Path
    values: Mapping[str, Any] = field(repr=False)
    mistake: Callable[..., UsageMistake] = field(repr=False)
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, repr=False)
    """By the name of a command, what its options are unless given; nobody has checked the names."""

    @property
    def protected(self) -> bool:
        """Whether a person confirms what writes."""
        return bool(self.values.get("protected"))

    def has(self, key: str) -> bool:
        """Whether it has a value of this name, or a file that holds it: redis_url, bridge_token."""
        return key in self.values or f"{key}_file" in self.values

    def url(self, key: str, environ: Mapping[str, str]) -> ServerUrl | None:
        """A server's URL, or None where it has none. Raises UsageMistake, without any secret."""
        if not self.has(key):
            return None
        url, files = self.secret(key, environ)
        is_harmless = key in self.values and not has_password(
            _FROM_ENVIRONMENT.sub("", self.values[key])
        )
        secret_files = [] if is_harmless else [*files]
        password_key = f"{key.removesuffix('_url')}_password_file"
        if password_key in self.values:
            if has_password(url):
                raise self.mistake(password_key, f"{key} already holds a password")
            file = self._file(password_key)
            secret_files.append(file)
            password = quote(self._content(password_key, file), safe="")
            scheme, separator, rest = url.partition("://")
            place, slash, rest = rest.partition("/")
            login, _, host = place.rpartition("@")
            url = f"{scheme}{separator}{login}:{password}@{host}{slash}{rest}"
        return ServerUrl(url, tuple(secret_files))

    def secret(self, key: str, environ: Mapping[str, str]) -> tuple[str, tuple[Path, ...]]:
        """The value of a name that it has, and the file that holds it; raises UsageMistake."""
        if f"{key}_file" in self.values:
            file = self._file(f"{key}_file")
            return self._content(f"{key}_file", file), (file,)
        text = self.values[key]
        is_elsewhere = _FROM_ENVIRONMENT.fullmatch(text) is not None
        return self._filled_in(key, text, environ), () if is_elsewhere else (self.path,)

    def _filled_in(self, key: str, text: str, environ: Mapping[str, str]) -> str:
        def value_of(match: re.Match[str]) -> str:
            value = environ.get(match[1])
            if not value:
                raise self.mistake(key, f"{match[1]} is not set in the environment")
            # A part of a URL may hold anything; a whole one is as it should be already.
            return value if match[0] == text else quote(value, safe="")

        return _FROM_ENVIRONMENT.sub(value_of, text)

    def _file(self, key: str) -> Path:
        return self.path.parent / Path(self.values[key]).expanduser()

    def _content(self, key: str, file: Path) -> str:
        try:
            return read_secret(file)
        except ValueError as error:
            raise self.mistake(key, str(error)) from None


@dataclass(frozen=True, slots=True)
class Profiles:
    """The configuration file, read and checked."""

    path: Path
    text: str = field(default="", repr=False)
    current: str | None = None
    by_name: Mapping[str, Profile] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path | None = None) -> "Profiles":
        """The file's profiles, none where it does not exist; raises UsageMistake."""
        path = config_path() if path is None else path
        try:
            if not stat.S_ISREG(path.stat().st_mode) and not path.samefile(os.devnull):
                raise UsageMistake(f"{path} is not a regular file: name one that is.")
            text = path.read_text("utf-8")
        except FileNotFoundError:
            return cls(path)
        except UnicodeDecodeError:
            raise UsageMistake(f"{path} is not UTF-8 text: save it as that.") from None
        except OSError as error:
            raise UsageMistake(f"Cannot read {path}: {error.strerror}.") from None
        return cls.parse(text, path)

    @classmethod
    def parse(cls, text: str, path: Path) -> "Profiles":
        """The profiles in `text`; raises UsageMistake with `path`, the line and the remedy."""
        import tomllib

        try:
            document = tomllib.loads(text)
        except (tomllib.TOMLDecodeError, RecursionError) as error:
            raise UsageMistake(f"{path} is not valid TOML: {error}; correct it there.") from None
        return _Reader(text, path).read(document)

    def get(self, name: str, chosen_by: str) -> Profile:
        """A profile; raises UsageMistake. `chosen_by` is what named it, for the person."""
        if name in self.by_name:
            return self.by_name[name]
        near = get_close_matches(name, self.by_name, n=1)
        if near:
            remedy = f"did you mean {near[0]!r}?"
        elif self.by_name:
            remedy = f"it has {', '.join(self.by_name)}."
        else:
            remedy = f"make it with: lykke profile add {name} --redis-url URL"
        raise UsageMistake(f"{chosen_by}: there is no profile {name!r} in {self.path}; {remedy}")

    def add(self, name: str, values: Mapping[str, str | bool]) -> None:
        """Write a profile, or change one; raises UsageMistake, OutputFailed.

        What else it has stays, but what belongs to a URL that is changed.
        """
        import tomlkit

        document = tomlkit.parse(self.text)
        if "profiles" not in document:
            document["profiles"] = tomlkit.table(is_super_table=True)
        table = document["profiles"].setdefault(name, tomlkit.table())
        for server in ("redis", "database", "bridge"):
            if f"{server}_url" in values:
                for part in ("url_file", "password_file", "token", "token_file"):
                    table.pop(f"{server}_{part}", None)
        table.update(values)
        self._write(document)

    def remove(self, name: str) -> None:
        """Write the file without a profile that it has; raises OutputFailed."""
        import tomlkit

        document = tomlkit.parse(self.text)
        del document["profiles"][name]
        if self.current == name:
            del document["current"]
        self._write(document)

    def use(self, name: str | None) -> None:
        """Write which profile is the current one; raises OutputFailed."""
        import tomlkit

        document = tomlkit.parse(self.text)
        if name is not None:
            document["current"] = name
        elif "current" in document:
            del document["current"]
        self._write(document)

    def _write(self, document: "TOMLDocument") -> None:
        text = document.as_string()
        Profiles.parse(text, self.path)  # what cannot be read again is never written
        path = self.path.resolve()  # a link, into somebody's dotfiles, stays a link
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            replace_file(path, text.encode(), is_private=True)
        except OSError as error:
            raise OutputFailed(f"Cannot write {path}: {error.strerror}.") from error


class _Reader:
    """Checks what a configuration file holds; every mistake is told with its line."""

    def __init__(self, text: str, path: Path) -> None:
        self._text = text
        self._path = path

    def read(self, document: dict[str, Any]) -> Profiles:
        for key in document.keys() - {"current", "profiles"}:
            raise self._unknown("", key, ("current", "profiles"))
        tables = document.get("profiles", {})
        if not isinstance(tables, dict):
            raise self._mistake("", "profiles", "write each profile under [profiles.NAME]")
        by_name = {name: self._profile(name, values) for name, values in tables.items()}
        current = document.get("current")
        if current is not None and not isinstance(current, str):
            raise self._mistake("", "current", "it is a profile's name in quotes")
        return Profiles(self._path, self._text, current, by_name)

    def _profile(self, name: str, values: object) -> Profile:
        section = f"profiles.{name}"
        if not isinstance(values, dict):
            raise self._mistake("profiles", name, f"write a profile under [{section}]")
        if not NAME.fullmatch(name):
            raise self._mistake(section, "", bad_name(name))
        known = _TEXTS | _SWITCHES
        options = {
            key: self._options(f"{section}.{key}", value)
            for key, value in values.items()
            if isinstance(value, dict) and key not in known
        }
        values = {key: value for key, value in values.items() if key not in options}
        for key, value in values.items():
            if key not in known:
                raise self._unknown(section, key, tuple(known))
            if key in _SWITCHES and not isinstance(value, bool):
                raise self._mistake(section, key, "it is true or false")
            if key in _TEXTS and not (isinstance(value, str) and value.strip()):
                raise self._mistake(section, key, "it is a text in quotes")
            if key in CHOICES and value not in CHOICES[key]:
                raise self._mistake(section, key, f"it is one of {', '.join(CHOICES[key])}")
            if f"{key}_file" in values:
                raise self._mistake(section, key, f"leave it or {key}_file out")
            server, is_password, _ = key.partition("_password_file")
            if is_password and not values.keys() & {f"{server}_url", f"{server}_url_file"}:
                raise self._mistake(section, key, f"it needs {server}_url beside it")
        return Profile(
            name,
            self._path,
            values,
            lambda key, text, below="": self._mistake(section + below, key, text),
            options,
        )

    def _options(self, section: str, values: dict[str, Any]) -> dict[str, Any]:
        for key, value in values.items():
            several = value if isinstance(value, list) else [value]
            if not all(isinstance(each, str | int | float) for each in several):
                raise self._mistake(section, key, "it is a text, a number, true or false")
        return values

    def _unknown(self, section: str, key: str, known: tuple[str, ...]) -> UsageMistake:
        near = get_close_matches(key, known, n=1)
        remedy = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(sorted(known))}"
        return self._mistake(section, key, f"this key is not known; {remedy}")

    def _mistake(self, section: str, key: str, text: str) -> UsageMistake:
        where = f"{self._path}, line {self._line(section, key)}"
        end = "" if text.endswith("?") else "."
        return UsageMistake(f"{where}: {key or section}: {text}{end}")

    def _line(self, section: str, key: str) -> int:
        """Where a key of a section is written, or the section itself, or what holds it."""
        header, found = "", 0
        for number, line in enumerate(self._text.splitlines(), 1):
            if line.lstrip().startswith("["):
                header = re.sub(r"[\[\s\"']", "", line.partition("]")[0])
                found = number if header == re.sub(r"[\s\"']", "", section) else found
            elif header == section and line.partition("=")[0].strip(" \t\"'") == key:
                return number
        if not found and section:
            above, _, name = section.rpartition(".")
            return self._line(above, name)
        return found or 1


def bad_name(name: str) -> str:
    """What is wrong with a profile's name."""
    return f"the name {name!r} has more than letters, digits, '-', '_' and '.'"


def has_password(url: str) -> bool:
    """Whether a server's URL holds one, or may."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return True  # it cannot be told: better a warning too many
    return bool(parts.password) or "password=" in parts.query
