"""What a request's query asks for: the same words as on the command line."""

from collections.abc import Collection, Iterable, Sequence
from datetime import UTC, datetime
from urllib.parse import parse_qsl
from uuid import UUID

import msgspec

from lykke_cli.application.errors import UsageMistake
from lykke_cli.application.filters import Filters
from lykke_cli.application.gateways.history_protocol import Place
from lykke_cli.application.messages import parse_wire_time
from lykke_cli.application.times import parse_moment
from lykke_cli.web.patterns import LONGEST_PATTERN, LONGEST_QUERY, check_query, linear_search
from lykke_cli.web.refusals import bad_request

LONGEST = 8 << 10  # bytes
MOST_FIELDS = 100
MOST_ROWS = 10**9
MOST_BUCKETS = 1000
_LISTS = ("activity_type", "exclude")
_PATTERNS = {"query": LONGEST_QUERY, "grep": LONGEST_PATTERN, "not_grep": LONGEST_PATTERN}
_FILTERS = {*_LISTS, *_PATTERNS, "entity_type", "entity_id", "until"}
NO_FILTERS = Filters()
"""One for all: most clients have none, and each takes its part of a kilobyte."""
FOLLOWING = frozenset({*_FILTERS, "cursor", "since", "last"})
"""What `/ws` and `/events` understand."""
HISTORY = frozenset({*_FILTERS, "cursor", "since", "limit", "first", "order", "before", "format"})
USERS = frozenset({"q", "since", "until", "limit"})
COUNTS = frozenset({*_LISTS, "entity_type", "entity_id", "since", "until", "buckets"})
A_UUID = "write it like 3f2b8c1e-5d7a-4b9c-9e1f-0a6d2c4b8e10."


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """A query that makes sense."""

    filters: Filters
    cursor: str | None = None
    """As it came: nothing of it is checked."""
    since: datetime | None = None
    last: int | None = None
    """The newest so many; in a history it is called `limit`."""
    first: int | None = None
    """The oldest so many."""
    newest_first: bool = False
    before: Place | None = None
    """The entry before which it begins, with `newest_first`."""
    as_csv: bool = False
    buckets: int | None = None
    q: str | None = None
    """The start of a user's id, or a part of an e-mail address."""

    @property
    def says_where(self) -> bool:
        """Whether it tells where to begin."""
        return (self.cursor, self.since, self.last) != (None, None, None)


def asked(query_string: bytes, known: Collection[str]) -> Asked:
    """What the query asks for; raises Refusal, with a sentence that names what is wrong."""
    if len(query_string) > LONGEST:
        raise bad_request(f"The query has more than {LONGEST >> 10} KiB.")
    given: dict[str, list[str]] = {}
    for name, value in _pairs(query_string):
        if name not in known:
            raise bad_request(
                f"{name[:40]!r} is not understood here: there are {', '.join(sorted(known))}."
            )
        if "\0" in value:
            raise bad_request(f"{name} has a character 0, which no database can store.")
        given.setdefault(name, []).append(value)
    for name, values in given.items():
        if len(values) > 1 and name not in _LISTS:
            raise bad_request(f"{name} is there {len(values)} times: give it once.")
    single = {name: values[0] for name, values in given.items() if name not in _LISTS}
    now = datetime.now(UTC)
    since, until = (_moment(name, single.get(name), now) for name in ("since", "until"))
    if since is not None and until is not None and since >= until:
        raise bad_request("since is not before until: nothing lies between.")
    wanted = Asked(
        filters=_filters(given, single, until),
        cursor=single.get("cursor"),
        since=since,
        last=_number("limit" if "limit" in known else "last", single),
        first=_number("first", single),
        newest_first=_choice("order", ("asc", "desc"), single) == "desc",
        before=_place("before", single.get("before")),
        as_csv=_choice("format", ("ndjson", "csv"), single) == "csv",
        buckets=_number("buckets", single, MOST_BUCKETS),
        q=single.get("q"),
    )
    _check(wanted)
    return wanted


def _check(wanted: Asked) -> None:
    """Raises Refusal where parts of it do not go together."""
    if wanted.last is not None and wanted.first is not None:
        raise bad_request("limit is the newest N, first the oldest: give one of them.")
    if wanted.q is not None and len(wanted.q) > LONGEST_PATTERN:
        raise bad_request(f"q has more than {LONGEST_PATTERN} characters.")
    if wanted.newest_first and wanted.first is not None:
        raise bad_request("order=desc goes with limit, the newest N, not with first.")
    if wanted.before is not None and not wanted.newest_first:
        raise bad_request("before goes with order=desc, the newest first.")
    if wanted.cursor is not None and wanted != Asked(filters=wanted.filters, cursor=wanted.cursor):
        raise bad_request("cursor says where to begin: nothing else goes with it but filters.")


def user_of(text: str | None) -> UUID | None:
    """The user in the path; None: there is none, and every user is meant. Raises Refusal."""
    return _uuid("The user", text)


def _pairs(query_string: bytes) -> Iterable[tuple[str, str]]:
    try:
        text = query_string.decode("ascii")
        return parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=MOST_FIELDS)
    except ValueError:  # not UTF-8, or too many
        raise bad_request(
            f"The query is not read: it is percent-encoded UTF-8, of at most {MOST_FIELDS} parts."
        ) from None


def _moment(name: str, text: str | None, now: datetime) -> datetime | None:
    if text is None:
        return None
    try:
        return parse_moment(text[:100], now)
    except UsageMistake as error:
        raise bad_request(f"{name}: {error}") from error


def _number(name: str, single: dict[str, str], most: int = MOST_ROWS) -> int | None:
    text = single.get(name)
    if text is None:
        return None
    if text.isascii() and text.isdecimal() and len(text) < 20 and 0 < int(text) <= most:
        return int(text)
    raise bad_request(f"{name} is {text[:40]!r}, not a number from 1 to {most}.")


def _choice(name: str, words: Sequence[str], single: dict[str, str]) -> str | None:
    text = single.get(name)
    if text is None or text in words:
        return text
    raise bad_request(f"{name} is {text[:40]!r}: it may be {' or '.join(words)}.")


def _place(name: str, text: str | None) -> Place | None:
    """An entry's `occurred_at` and id, as they stand in it."""
    if text is None:
        return None
    moment, _, id = text.partition(",")
    try:
        return parse_wire_time(moment[:100]), str(UUID(id))
    except ValueError:
        raise bad_request(
            f"{name} is {text[:80]!r}: write an entry's occurred_at, a comma and its id."
        ) from None


def _filters(
    given: dict[str, list[str]], single: dict[str, str], until: datetime | None
) -> Filters:
    if until is None and not given.keys() & _FILTERS:
        return NO_FILTERS
    for name, longest in _PATTERNS.items():
        if len(single.get(name, "")) > longest:
            raise bad_request(f"{name} has more than {longest} characters.")
    try:
        filters = Filters(
            activity_types=tuple(given.get("activity_type", ())),
            excluded_types=tuple(given.get("exclude", ())),
            entity_type=single.get("entity_type"),
            entity_id=_uuid("entity_id", single.get("entity_id")),
            until=until,
            query=single.get("query"),
            grep=single.get("grep"),
            not_grep=single.get("not_grep"),
            search=linear_search,
        )
        if filters.query is not None:
            check_query(filters.query)
        return filters
    except UsageMistake as error:
        text = str(error).replace("--not-grep", "not_grep", 1)  # as the command line spells it
        raise bad_request(f"{text.removeprefix('--').rstrip('.')}.") from error
    except ValueError as error:
        raise bad_request(f"query {error}.") from error
    except RecursionError:
        raise bad_request("query is nested too deeply.") from None


def _uuid(name: str, text: str | None) -> UUID | None:
    if text is None:
        return None
    try:
        return UUID(text)
    except ValueError:
        raise bad_request(f"{name}: {text[:60]!r} is not a UUID: {A_UUID}") from None
