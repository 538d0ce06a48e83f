"""Every parser of foreign text: it understands, or says in one error that it does not.

`make fuzz` runs the same with many more examples; what it finds is kept as an `example`.
"""

import asyncio
import contextlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lykke_cli.application import messages
from lykke_cli.application.errors import OutputFailed
from lykke_cli.application.filters import Filters
from lykke_cli.application.gateways.history_protocol import Cursor, Selection
from lykke_cli.application.messages import Arrival, Entry, OtherMessage
from lykke_cli.application.place import Place
from lykke_cli.application.times import parse_duration, parse_moment
from lykke_cli.cli.arguments.completion import complete
from lykke_cli.cli.arguments.values import interval, parse_user, parse_uuid, size
from lykke_cli.cli.output.renderers import NdjsonRenderer
from lykke_cli.cli.output.template import TemplateRenderer
from lykke_cli.domain.errors import LykkeError
from lykke_cli.infrastructure.configuration.cursor_key import cursor_keys
from lykke_cli.infrastructure.configuration.profiles import Profiles
from lykke_cli.infrastructure.database import urls as database_urls
from lykke_cli.infrastructure.database.patterns import like
from lykke_cli.infrastructure.files import recent
from lykke_cli.infrastructure.files.cursor_file import CursorFile
from lykke_cli.infrastructure.files.entry_file import EntryFile
from lykke_cli.infrastructure.files.written_entries import mark_before
from lykke_cli.infrastructure.postgresql.cursor import Origin, Snapshot, parse, understand
from lykke_cli.infrastructure.redis.urls import display_url, parse_redis_url
from lykke_cli.infrastructure.sealed_cursors import SealedCursors
from lykke_cli.infrastructure.sqlite.history import SqliteHistory
from lykke_cli.infrastructure.sqlite.schema import create_sqlite_table
from lykke_cli.web import client_messages
from lykke_cli.web.client_messages import Acknowledgment, Broadcast

NOW = datetime(2026, 11, 23, tzinfo=UTC)
SECRET = "s3cret-canary"
SEALED = SealedCursors([bytes(32)])
EMPTY = Path(tempfile.gettempdir()) / f"lykke-fuzz-{os.getpid()}.db"

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
    parse_user,
    size,
    interval,
    like,
    lambda text: complete(text.split(), text),
    parse_redis_url,
    database_urls.asyncpg_dsn,
    database_urls.sqlite_path,
    database_urls.engine_arguments,
    TemplateRenderer,
    lambda text: Filters(query=text),
    lambda text: Filters(grep=text),
    lambda text: Filters(not_grep=text),
    lambda text: Filters(activity_types=(text,), excluded_types=(text,)),
    lambda text: SEALED.open(UUID(int=1), text),
    lambda text: cursor_keys({"LYKKE_CURSOR_KEY": text}),
    client_messages.parse,
    lambda text: Profiles.parse(text, Path("config.toml")),
    lambda text: Profiles.parse(f"[profiles.a]\nredis_url = {text!r}\n", Path("config.toml")),
]


@pytest.mark.filterwarnings(
    "ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::PendingDeprecationWarning"
)
@pytest.mark.parametrize("parser", range(len(PARSERS)))
@given(text=texts | assembled)
@example(text="``")
@example(text="sqlite:///\ud800")
@example(text="sqlite:///%00")
@example(text="redis://\ud800")
def test_any_text_is_understood_or_refused(parser: int, text: str) -> None:
    with contextlib.suppress(LykkeError):
        PARSERS[parser](text)


@given(before=assembled, after=assembled)
@example(before="unix:///", after="")
def test_a_password_is_never_part_of_what_is_shown(before: str, after: str) -> None:
    for url in (f"redis://u:{SECRET}@h{after}", f"postgresql://u:{SECRET}@h{after}"):
        for understood in (parse_redis_url, database_urls.asyncpg_dsn):
            try:
                understood(url)
            except LykkeError as error:
                assert SECRET not in str(error)
    if before.startswith("sqlite"):
        return  # what follows is the name of a file
    for url in (f"{before}u:{SECRET}@h{after}", f"redis://:{SECRET}@{after}"):
        for show in (display_url, database_urls.display_url):
            with contextlib.suppress(LykkeError):
                assert SECRET not in show(url)


def _json(value: object) -> bytes:
    return json.dumps(value).encode()


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


@pytest.fixture(scope="module", autouse=True)
def _empty_database() -> Iterator[None]:
    create_sqlite_table(EMPTY)
    yield
    EMPTY.unlink()


class Store:
    """A place that somebody has damaged."""

    def __init__(self, state: Any, *changes: Any) -> None:
        self.state = state
        self.changes = changes

    def load(self) -> Any:
        return None if self.state is None else [self.state, *self.changes]

    def save(self, state: dict[str, Any]) -> None: ...

    def add(self, change: dict[str, Any]) -> None: ...

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
    sound: dict[str, Any] = {"cursor": {}, "pending": {}, "floor": None}
    for change in ({"wrote": pending, "output": output}, {"wrote": pending}, {}):
        Place(Store({"checkpoint": sound, "output": {}}, change)).load()


@given(
    cursor=st.dictionaries(
        st.sampled_from(["kind", "groups", "regions", "at", "database"]), json_values
    )
)
def test_a_foreign_cursor_reads_again_and_says_so(cursor: dict[str, Any]) -> None:
    snapshot = Snapshot(1, 2, NOW, Origin("1/1", 1, 1, "", False))
    assert understand(parse(Cursor(cursor)), snapshot, None).notice

    async def read() -> list[str | None]:
        async with SqliteHistory(f"sqlite:///{EMPTY}") as history:
            changes = history.changes(Selection(user_ids=None), Cursor(cursor))
            return [chunk.notice async for chunk in changes]

    if cursor.get("kind") != "sqlite":
        assert all(asyncio.run(read()))


times = st.datetimes(timezones=st.just(UTC)).map(datetime.isoformat) | assembled
ids = st.uuids().map(str) | assembled
members = st.fixed_dictionaries(
    {},
    optional={
        "id": ids | json_values,
        "user_id": ids | json_values,
        "activity_type": texts | json_values,
        "occurred_at": times | json_values,
        "entity_id": ids | json_values,
        "entity_type": json_values,
        "meta": json_values,
        "type": json_values,
    },
)
payloads = st.binary(max_size=60) | members.map(_json) | texts.map(_bytes)
payloads |= st.tuples(members.map(_json), st.integers(0, 200), st.binary(max_size=3)).map(
    lambda parts: parts[0][: parts[1]] + parts[2] + parts[0][parts[1] :]
)
FILTERS = Filters(query="meta.n > `1` || starts_with(activity_type, 'A')", grep="a+")
TEMPLATE = TemplateRenderer("{occurred_at:<5.3} {meta.a[0]} {activity_type} {meta[b]}")


@given(payload=payloads)
def test_any_message_is_an_entry_or_something_that_can_be_shown(payload: bytes) -> None:
    message = messages.decode(payload)
    arrival = Arrival(message, "live", "auditlog:x", raw=payload)
    FILTERS.select([arrival])
    assert TEMPLATE.render([arrival]).endswith(b"\n")
    line = NdjsonRenderer().render([arrival])
    assert line.count(b"\n") == 1
    if isinstance(message, Entry):
        again = messages.decode(line)
        assert isinstance(again, Entry)
        assert again.to_dict() == message.to_dict()
    messages.decode_object(payload)


ENTRY = {"id": str(UUID(int=1)), "user_id": str(UUID(int=2)), "activity_type": "A"}
ENTRY |= {"occurred_at": NOW.isoformat()}
frames = st.fixed_dictionaries(
    {"event_id": ids, "type": st.one_of(st.just("acknowledgment"), json_values)},
    optional={"broadcast": st.just(True)},
)


@given(
    payload=st.one_of(
        payloads,
        st.tuples(st.one_of(members, st.just(ENTRY)), frames).map(
            lambda both: _json(both[0] | both[1])
        ),
    )
)
@example(payload=_json(ENTRY | {"event_id": "1", "type": "acknowledgment"}))
def test_nothing_that_a_client_says_is_published_as_an_entry(payload: bytes) -> None:
    message = client_messages.parse(payload)
    if isinstance(message, Broadcast | Acknowledgment):
        published = messages.encode(message.published("somebody", NOW))
        assert isinstance(messages.decode(published), OtherMessage)


tails = st.lists(payloads | st.just(b"\n") | members.map(_json), max_size=5).map(b"".join)


@given(before=tails, after=tails, known=st.integers(0, 300), ours=st.booleans())
def test_no_byte_of_another_is_lost_in_a_file(
    before: bytes, after: bytes, known: int, ours: bool
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "out.ndjson"
        path.write_bytes(before + after)
        here, length = path.stat(), min(known, len(before))
        file = EntryFile(path)
        try:
            file.open(
                {
                    "length": length,
                    "mark": mark_before(before[:length]) if ours else "",
                    "file": [here.st_dev, here.st_ino if ours else -1],
                }
            )
            file.write(b'{"n":1}\n')
        except OutputFailed:
            assert path.read_bytes() == before + after
            return
        finally:
            file.close()
        data = path.read_bytes()
    assert data.endswith(b'{"n":1}\n')
    kept = data[: -len(b'{"n":1}\n')]
    assert kept.endswith(b"\n") or not kept
    assert (before + after).startswith(kept.removesuffix(b"\n"))
    if not (before + after).startswith(kept):
        kept = kept[:-1]  # a line that was not ended is by now
    lost = (before + after)[len(kept) :]
    assert b"\n" not in lost
    is_half_an_entry = b'{"id":"'.startswith(lost[:7]) and kept
    assert not lost or (ours and lost.startswith(b"{")) or is_half_an_entry


damaged = st.binary(max_size=40) | json_values.map(lambda value: _json({"version": value}))
damaged |= st.fixed_dictionaries({"users": json_values, "activity_types": json_values}).map(_json)


@given(data=damaged)
def test_a_damaged_file_of_the_state_folder_is_no_error(data: bytes) -> None:
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        patch.setattr(recent, "recent_path", lambda: Path(folder) / "recent.json")
        recent.recent_path().write_bytes(data)
        assert all(map(str.isascii, [*recent.users(), *recent.activity_types()]))
        store = CursorFile({"a": "b"}, folder=Path(folder))
        with store:
            store.save({})
            [path] = set(Path(folder).glob("*.json")) - {recent.recent_path()}
            path.write_bytes(data)
            assert store.load() is None
            assert store.load() is None  # it was set aside
