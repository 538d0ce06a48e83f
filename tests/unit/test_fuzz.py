"""Every parser of foreign text: it understands, or says in one error that it does not."""

import contextlib
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lykke_cli.application.filters import Filters
from lykke_cli.application.place import Place
from lykke_cli.application.times import parse_duration, parse_moment
from lykke_cli.cli.options import parse_uuid, size
from lykke_cli.cli.template import TemplateRenderer
from lykke_cli.domain.errors import LykkeError
from lykke_cli.infrastructure.database import urls as database_urls
from lykke_cli.infrastructure.gateways.redis_urls import display_url, parse_redis_url
from lykke_cli.infrastructure.profiles import Profiles

NOW = datetime(2026, 11, 23, tzinfo=UTC)
SECRET = "s3cret-canary"

texts = st.text(max_size=40)
SCHEMES = ["redis://", "rediss://", "unix://", "postgresql://", "sqlite:///"]
PARTS = ["ssl_ca_certs=", "sslmode=", "host=", "port=", "db=", "[::1]", "1h", "2026-01-01"]
pieces = st.sampled_from(
    [*SCHEMES, *PARTS, *":@/?&#%+-.{}[]!TZa9", "%zz", "99999", "\x00", "\ud800"]
)
assembled = st.lists(pieces, max_size=8).map("".join)
PARSERS: list[Callable[[str], object]] = [
    parse_duration,
    lambda text: parse_moment(text, NOW),
    parse_uuid,
    size,
    parse_redis_url,
    database_urls.asyncpg_dsn,
    database_urls.sqlite_path,
    database_urls.engine_arguments,
    TemplateRenderer,
    lambda text: Filters(query=text),
    lambda text: Filters(grep=text),
    lambda text: Filters(activity_types=(text,)),
    lambda text: Profiles.parse(text, Path("config.toml")),
    lambda text: Profiles.parse(f"[profiles.a]\nredis_url = {text!r}\n", Path("config.toml")),
]


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize("parser", range(len(PARSERS)))
@given(text=texts | assembled)
def test_any_text_is_understood_or_refused(parser: int, text: str) -> None:
    with contextlib.suppress(LykkeError):
        PARSERS[parser](text)


@given(before=assembled, after=assembled)
def test_a_password_is_never_part_of_what_is_shown(before: str, after: str) -> None:
    for url in (f"redis://u:{SECRET}@h{after}", f"postgresql://u:{SECRET}@h{after}"):
        for parse in (parse_redis_url, database_urls.asyncpg_dsn):
            try:
                parse(url)
            except LykkeError as error:
                assert SECRET not in str(error)
    if before.startswith("sqlite"):
        return  # what follows is the name of a file
    for url in (f"{before}u:{SECRET}@h{after}", f"redis://:{SECRET}@{after}"):
        for show in (display_url, database_urls.display_url):
            with contextlib.suppress(LykkeError):
                assert SECRET not in show(url)


class Store:
    """A place that somebody has damaged."""

    def __init__(self, state: Any) -> None:
        self.state = state

    def load(self) -> Any:
        return self.state

    def save(self, state: dict[str, Any]) -> None: ...

    def set_aside(self) -> None:
        self.state = None


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)


@given(cursor=json_values, pending=json_values, floor=json_values, output=json_values)
def test_a_damaged_place_is_set_aside(cursor: Any, pending: Any, floor: Any, output: Any) -> None:
    checkpoint = {"cursor": cursor, "pending": pending, "floor": floor}
    for state in ({"checkpoint": checkpoint, "output": output}, {"checkpoint": cursor}, {}):
        Place(Store(state)).load()
