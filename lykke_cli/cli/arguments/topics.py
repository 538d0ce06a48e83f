"""What `lykke help TOPIC` prints: what holds for several commands and is too long for an option."""

from textwrap import fill

TIMES = """\
Times

--since, --until and --occurred-at take a moment:

  15m, 2h, 7d, 1h30m       so long ago; also 2h ago, 2 hours ago
  in 5m                    so long from now
  14:05                    the last time that it was five past two
  today, yesterday         their midnight; also yesterday 14:05
  2026-01-31, 20260131     that day's midnight
  2026-01-31T14:05:00Z     ISO 8601, with a zone or without one
  @1767225600              Unix time
  now

A bare number is refused: it needs a unit. A time without a zone is read in the
zone that the table shows: this machine's on a terminal, UTC in a pipe, or what
--utc, --local or --tz Europe/Berlin says. All other output is in UTC.

--timeout, --idle, --every and --reconcile take a duration: 500ms, 30s, 15m, 2h,
7d, 1h30m. There a bare number is seconds.
"""
FILTERS = """\
Filters

All that are given must hold. With any of them only entries are shown.

  --activity-type TYPE     a type, or a pattern: * is anything, ? one character,
                           [ab] one of these; repeated, any of them will do
  --exclude TYPE           no such type, nor one like it; it wins over
                           --activity-type; repeated, none of them
  --entity-type TYPE       exactly this kind of thing
  --entity-id UUID         exactly this thing
  --until TIME             what occurred before it
  --grep REGEX             a Python regular expression that is found somewhere
                           in the entry's JSON; (?i) at its start ignores case
  --not-grep REGEX         one that is found nowhere in it
  --query JMESPATH         an expression over the entry's JSON, which must be
                           true; texts stand in '...', numbers in `...`

  lykke backfill USER_ID --activity-type 'TASK_*' --since 7d
  lykke backfill USER_ID --since 30d --query "meta.priority=='high'"
  lykke backfill USER_ID --since 7d --query 'meta.minutes > `30`' --grep invoice

The database decides on types, entities and times. --grep, --not-grep, --query
and patterns with [] look at every entry that is left: with a --since they have
less to do.

-n N (--last, --limit) takes the newest N of what matches, --first N the oldest.
"""
TEMPLATES = """\
Templates

--template prints a line of your own for each entry. Fields stand in braces:

  {id} {user_id} {activity_type} {occurred_at} {entity_id} {entity_type} {meta}
  {meta.title}             what is inside of meta; also {meta[tags][0]}
  {source}                 live or history
  {channel}                the channel that it came from
  {activity_type:<20}      padded to 20 on the right; > on the left, ^ on both
  {meta.title:.40}         at most 40 characters
  {{ }} \\n \\t              braces, a new line, a tab

  lykke tail USER_ID --template '{occurred_at} {activity_type:<20} {meta.title}'

A field that an entry does not have is empty. What comes from an entry is shown
escaped: it stays on its line.
"""
EXIT_CODES = {
    "0": "done; also when whoever read the output closed it (| head -1)",
    "1": "a bug",
    "2": "wrong arguments",
    "3": "a server cannot be reached, refuses the login, or has no audit log",
    "4": "what was waited for did not happen: too few entries in time, too few subscribers, "
    "expect was not met, a check of doctor failed",
    "5": "bad input data, or an output file that cannot be written",
    "129, 130, 143": "hung up, interrupted (Ctrl-C), terminated",
}
"""What each exit code means."""
_MEANINGS = "\n".join(
    fill(meaning, 79, initial_indent=f"  {code:<16}", subsequent_indent=" " * 18)
    for code, meaning in EXIT_CODES.items()
)
TOPICS = {
    "times": TIMES,
    "filters": FILTERS,
    "templates": TEMPLATES,
    "exit-codes": f"Exit codes\n\n{_MEANINGS}\n",
}
