"""The filters of every command that reads, as one predicate and one selection."""

import fnmatch
import re
from collections.abc import Callable, Iterator, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from typing import Any, TypedDict
from uuid import UUID

import msgspec

from lykke_cli.application.batches import as_batch
from lykke_cli.application.channel_event import ChannelEvent, event_of
from lykke_cli.application.errors import UsageMistake
from lykke_cli.application.gateways.history_protocol import HistoryRow, Selection
from lykke_cli.application.messages import Arrival, Entry, Message, format_time

_WILD = re.compile(r"[*?[]")
# A set, as fnmatch reads it: the first ] is one of its characters. What never closes is none.
_SET = re.compile(r"\[!?+\]?+[^\]]*+\]")
_JMESPATH_WORDS = re.compile(r"^\w+ jmespath expression: |(, for expression)?:$", re.IGNORECASE)
_LONGEST_LIKE = 1_000  # characters; SQLite refuses more than 50,000
_MOST_KNOWN, _LONGEST_KNOWN = 1_000, 1_000  # types whose verdict is kept; characters of each
_LIKE = {"*": "%", "?": "_", "%": r"\%", "_": r"\_", "\\": "\\\\"}

Event = Entry | ChannelEvent


class FilterOptions(TypedDict, total=False):
    """The filters as keyword arguments; `Filters` says what each means."""

    activity_types: Sequence[str]
    excluded_types: Sequence[str]
    entity_type: str | None
    entity_id: UUID | None
    until: datetime | None
    query: str | None
    grep: str | None
    not_grep: str | None


def _search(pattern: str) -> Callable[[str], object]:
    try:
        return re.compile(pattern).search
    except (re.error, RecursionError, OverflowError) as error:
        raise ValueError(error) from error


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """Which messages are wanted; with any part given, what is no entry is not.

    On channels of other types than the audit log's `any_message` looks into every JSON object.
    """

    activity_types: tuple[str, ...] = ()
    """Any of these, each a name or a shell-style pattern (`TASK_*`); empty for all."""
    excluded_types: tuple[str, ...] = field(repr=False, default=())
    """None of these, each a name or a pattern likewise."""
    entity_type: str | None = None
    entity_id: UUID | None = None
    until: datetime | None = None
    """Only what occurred before it."""
    query: str | None = None
    """A JMESPath expression over the entry; kept when its result is true (or not empty)."""
    grep: str | None = None
    """A regular expression that is found somewhere in the entry's JSON."""
    not_grep: str | None = field(repr=False, default=None)
    """One that is found nowhere in it."""
    any_message: bool = field(repr=False, default=False)
    """Whether they hold for every JSON object: its type is where `TYPE_KEYS` say."""
    search: Callable[[str], Callable[[str], object]] = field(
        repr=False, compare=False, default=_search
    )
    """Makes of a regular expression what looks for it in a text; raises ValueError."""
    _query: Any = field(init=False, repr=False, compare=False, default=None)
    _grep: Any = field(init=False, repr=False, compare=False, default=None)
    _not_grep: Any = field(init=False, repr=False, compare=False, default=None)
    _is_wanted_type: Any = field(init=False, repr=False, compare=False, default=None)

    def __post_init__(self) -> None:
        if self.query is not None:
            import jmespath

            try:
                object.__setattr__(self, "_query", jmespath.compile(self.query))
            except jmespath.exceptions.JMESPathError as error:
                reason = _JMESPATH_WORDS.sub("", str(error).splitlines()[0])
                raise UsageMistake(f"--query is not a JMESPath expression: {reason}") from error
        if self.grep is not None:
            object.__setattr__(self, "_grep", self._finding("--grep", self.grep))
        if self.not_grep is not None:
            object.__setattr__(self, "_not_grep", self._finding("--not-grep", self.not_grep))
        is_wanted_type = type_matcher(self.activity_types, self.excluded_types)
        object.__setattr__(self, "_is_wanted_type", is_wanted_type)

    def _finding(self, option: str, pattern: str) -> Callable[[str], object]:
        try:
            return self.search(pattern)
        except ValueError as error:
            raise UsageMistake(f"{option} is not a regular expression: {error}") from error

    @classmethod
    def of(cls, options: FilterOptions) -> "Filters":
        """Those that an application gave; raises UsageMistake where they make no sense."""
        given: dict[str, Any] = {**options}
        for name in ("activity_types", "excluded_types"):
            if isinstance(given.get(name), str):
                raise UsageMistake(f"{name} is a list of names or patterns.")
            given[name] = tuple(given.get(name, ()))
        return cls(**given)

    @property
    def selects_all(self) -> bool:
        parts = (self.entity_type, self.entity_id, self.until, self.query, self.grep, self.not_grep)
        return not (self.activity_types or self.excluded_types or any(p is not None for p in parts))

    @property
    def key(self) -> str:
        """What tells them from others where places are stored; empty when they select all.

        What filters could not say at first is in it only where it is said: a place that was stored
        before goes on.
        """
        if self.selects_all:
            return ""
        later = {"excluded_types": self.excluded_types, "not_grep": self.not_grep}
        said = {name: value for name, value in later.items() if value not in ((), None)}
        return f"{self!r}{said or ''}"

    @property
    def is_all_sql(self) -> bool:
        """True when `selection` and the range of time say it all."""
        decided_here = (self.query, self.grep, self.not_grep)
        patterns = (*(self.activity_types if self._has_patterns else ()), *self.excluded_types)
        return all(part is None for part in decided_here) and all(map(_is_like, patterns))

    @property
    def _has_patterns(self) -> bool:
        return has_patterns(self.activity_types)

    def selection(self, user_ids: Set[UUID] | None) -> Selection:
        """Return what of the filters the database can decide; it may let more through."""
        likes = [_like(name) for name in self.activity_types] if self._has_patterns else []
        return Selection(
            user_ids=user_ids,
            activity_types=() if likes else self.activity_types,
            activity_likes=likes,
            excluded_likes=[_like(name) for name in self.excluded_types if _is_like(name)],
            entity_type=self.entity_type,
            entity_id=self.entity_id,
        )

    def select(self, arrivals: Sequence[Arrival]) -> Sequence[Arrival]:
        """Return the arrivals that are wanted."""
        if self.selects_all:
            return arrivals
        batch = as_batch(arrivals)
        events = batch.events(self.event_of)
        found = [event for event in events if event is not None]
        if len(found) < len(events):
            batch = batch.where([event is not None for event in events])
        return batch.where(self._wanted(found))

    def wants(self, rows: Sequence[HistoryRow]) -> list[bool]:
        """Tell of each row whether it is wanted."""
        events = [self.event_of(row) for row in rows]
        return self._wanted([event for event in events if event is not None])  # none is None

    def event_of(self, message: Message) -> Event | None:
        """Return what the filters look at in a message; None where they do not hold for it."""
        return event_of(message, any_message=self.any_message)

    def _wanted(self, entries: Sequence[Event]) -> list[bool]:
        """Tell for each entry whether it is wanted; each part of the filter looks at all."""
        wanted = [True] * len(entries)
        if self.activity_types or self.excluded_types:
            wanted = [self._is_wanted_type(entry.activity_type) for entry in entries]
        for _, part in self._parts():
            wanted = [yes and part(entry) for yes, entry in zip(wanted, entries, strict=True)]
        return wanted

    def why_not(self, entry: Event) -> str | None:
        """Say in a few words what of the entry is not as wanted; None when all of it is."""
        if not self._is_wanted_type(entry.activity_type):
            return f"its activity_type is {entry.activity_type}"
        for name, part in self._parts():
            if not part(entry):
                if name.startswith("--"):
                    return f"{name} does not hold for it"
                return f"its {name} is {entry.to_dict().get(name)}"
        return None

    def _parts(self) -> Iterator[tuple[str, Callable[[Event], bool]]]:
        """Yield all parts of the filter but the activity types, by the name of field or option."""
        entity_type, until = self.entity_type, self.until
        if entity_type is not None:
            yield "entity_type", lambda entry: entry.entity_type == entity_type
        if self.entity_id is not None:
            entity_id = str(self.entity_id)
            yield "entity_id", lambda entry: entry.entity_id == entity_id
        if until is not None:
            end = format_time(until)
            yield "occurred_at", lambda entry: entry.occurred_at < end
        if self._grep is not None:
            yield "--grep", lambda entry: any(map(self._grep, _searched(entry)))
        if self._not_grep is not None:
            yield "--not-grep", lambda entry: not any(map(self._not_grep, _searched(entry)))
        if self._query is not None:
            yield "--query", self._answers

    def _answers(self, entry: Event) -> bool:
        import jmespath

        try:
            return bool(self._query.search(entry.to_dict()))
        except (jmespath.exceptions.JMESPathError, TypeError, RecursionError):
            # It does not apply to what this entry has: a TypeError is of number > text.
            return False


def has_patterns(activity_types: Sequence[str]) -> bool:
    """True when one of them is a shell-style pattern."""
    return any(_WILD.search(name) for name in activity_types)


def type_matcher(
    activity_types: Sequence[str], excluded: Sequence[str] = ()
) -> Callable[[str], bool]:
    """Return a function that tells whether a type is wanted: each is a name or a pattern.

    Without `activity_types` every type is; none that is `excluded` is.
    """
    if not activity_types and not excluded:  # nearly always, and thousands of clients ask
        return lambda name: True
    is_one, is_excluded = _any_of(activity_types or ("*",)), _any_of(excluded)

    def is_wanted(name: str) -> bool:
        return bool(is_one(name)) and not is_excluded(name)

    known = lru_cache(_MOST_KNOWN)(is_wanted)
    return lambda name: known(name) if len(name) <= _LONGEST_KNOWN else is_wanted(name)


def _any_of(patterns: Sequence[str]) -> Callable[[str], object]:
    either = "|".join(map(fnmatch.translate, patterns))
    return re.compile(either).match if patterns else lambda _: None


def _searched(event: Event) -> Iterator[str]:
    """The texts in which a regular expression is looked for.

    The database writes an entry's JSON with other spaces than the application, and no escapes. So
    it is searched without spaces between its parts, and, where it has escapes, also without those.
    """
    line = event.to_json()
    with suppress(msgspec.MsgspecError, RecursionError):  # then it is searched as it is
        line = msgspec.json.format(line, indent=-1)
    yield line.decode("utf-8", "replace")
    if b"\\u" in line:
        with suppress(RecursionError):  # then it is not
            yield msgspec.json.encode(event.to_dict()).decode()


def _is_like(pattern: str) -> bool:
    """True when `_like` matches no more than the pattern."""
    return len(pattern) <= _LONGEST_LIKE and not _SET.search(pattern)


def _like(pattern: str) -> str:
    """An SQL LIKE pattern that matches at least what the shell-style `pattern` does."""
    if len(pattern) > _LONGEST_LIKE:
        return "%"
    return "".join(_LIKE.get(char, char) for char in _SET.sub("?", pattern))
