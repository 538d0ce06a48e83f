"""`lykke tail`: follow users' channels."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Annotated

from lykke_cli.application.errors import UsageMistake
from lykke_cli.cli.arguments import options
from lykke_cli.cli.runs.users import ids_of
from lykke_cli.infrastructure.configuration.transport import keeps_messages
from lykke_cli.infrastructure.files import recent

LEADING = ("--since", "--last", "--activity-type", "--grep", "--output")
EPILOG = options.examples(
    "lykke tail USER_ID --since 15m",
    "lykke tail --all --activity-type '*FAILED*'",
    "lykke tail USER_ID --to-file audit.ndjson",
)


def tail(
    users: options.UserIds = None,
    all_users: options.AllUsers = False,
    channels: options.Channels = None,
    since: options.Since = None,
    last: Annotated[
        int | None,
        options.range_option(
            *options.NEWEST, min=0, metavar="N", help="First the newest N of history that match."
        ),
    ] = None,
    resume: Annotated[
        bool,
        options.range_option(
            "--resume", help="First what came since the last run of this command."
        ),
    ] = False,
    cursor: options.FromCursor = None,
    live_only: Annotated[
        bool,
        options.reliability_option(
            "--live-only", help="Use no database: gaps are announced, not filled."
        ),
    ] = False,
    count: options.EndCount = None,
    timeout: Annotated[
        str | None,
        options.range_option(
            "--timeout",
            metavar="DURATION",
            help="End after this long; with --count, exit code 4 if N did not come.",
        ),
    ] = None,
    idle: options.Idle = None,
    follow: Annotated[
        bool,
        options.range_option(
            "--follow/--no-follow",
            "-f",
            help="Go on live after history, the default, or end there.",
        ),
    ] = True,
    ack: Annotated[
        bool, options.reliability_option("--ack", help="Answer each entry with an acknowledgment.")
    ] = False,
    to_file: options.ToFile = None,
    rotate: options.Rotate = None,
    compress: options.Compress = False,
    reconcile: options.Reconcile = options.RECONCILE,
    full_pace: Annotated[
        float | None,
        options.reliability_option(
            "--full-pace",
            min=0.01,
            max=1,
            metavar="SHARE",
            help="How much of a core reading all of a large table may take: 0.1 unless given.",
        ),
    ] = None,
    health_interval: options.HealthInterval = options.HEALTH_INTERVAL,
    activity_type: options.ActivityTypes = None,
    exclude: options.Excluded = None,
    entity_type: options.EntityType = None,
    entity_id: options.EntityId = None,
    until: options.Until = None,
    query: options.Query = None,
    grep: options.Grep = None,
    not_grep: options.NotGrep = None,
    output: options.OutputOption = None,
    columns: options.Columns = None,
    template: options.Template = None,
    max_message_size: options.MaxMessageSize = options.MAX_MESSAGE_SIZE,
    utc: options.Utc = None,
    tz: options.TimeZone = None,
    relative: options.Relative = False,
    wrap: options.Wrap = False,
    unsafe: options.Unsafe = False,
    color: options.Color = None,
    redis_url: options.RedisUrl = None,
    transport: options.TransportOption = None,
    database_url: options.DatabaseUrl = None,
    bridge_url: options.BridgeUrl = None,
    profile: options.ProfileName = None,
    yes: options.Yes = False,
    quiet: options.Quiet = False,
) -> None:
    """Follow users' channels live.

    With a database every committed entry is printed exactly once, whatever happens between. In the
    table what came live is marked ●, what came from the database ○, and ↺ what should have come
    live and was recovered from there. At a terminal the key ? tells the others.
    """
    types = list(dict.fromkeys(channels or [options.AUDIT_LOG]))
    has_log = options.AUDIT_LOG in types
    is_known = all(user.is_id for user in users or ())
    has_servers = (redis_url or database_url or transport) is not None
    bridge = options.bridge(bridge_url, profile, has_servers=has_servers, quiet=quiet)
    needs: tuple[str, ...] = ("redis_url", "database_url")
    if bridge is not None:
        needs = ()
        _require_no_servers(
            {
                "--redis-url": redis_url is not None,
                "--transport": transport is not None,
                "--database-url": database_url is not None,
                "--live-only": live_only,
                "--reconcile": reconcile != options.RECONCILE,
                "--full-pace": full_pace is not None,
                "--health-interval": health_interval != options.HEALTH_INTERVAL,
                "--ack": ack,
                "--all": all_users,
                "--channel": types != [options.AUDIT_LOG],
                "--cursor": cursor is not None,
            }
        )
    elif live_only and is_known:
        needs = ("redis_url",)
    settings = options.settings(
        redis_url, database_url, profile, transport=transport, needs=needs, quiet=quiet
    )
    printing = options.printing(
        settings,
        output,
        utc=utc,
        tz=tz,
        relative=relative,
        wrap=wrap,
        unsafe=unsafe,
        color=color,
        quiet=quiet,
        columns=columns,
        template=template,
        max_message_size=max_message_size,
        any_message=types != [options.AUDIT_LOG],
    )
    start, end = options.time_range(since, until, printing.zone)
    limit = options.seconds(timeout)
    if not (users or all_users) and options.may_ask():
        from lykke_cli.cli.runs.choice import choose_user

        users = choose_user(settings)
    options.require_users(users, all_users=all_users)
    has_database = settings.database_url is not None
    has_history = bridge is not None or (not live_only and has_log and has_database)
    is_kept = keeps_messages(settings.redis_url)
    begins = since is not None or last is not None or cursor is not None
    if not has_history and (begins or not follow or (resume and not is_kept)):
        why = _why_no_history(None if live_only else types)
        raise UsageMistake(f"{why} {_IN_STREAMS}" if resume and not is_kept else why)
    if resume and (since is not None or last is not None):
        raise UsageMistake("--resume goes on where the last run ended: leave --since and -n out.")
    options.require_no_start(
        cursor,
        {
            "--since": since is not None,
            "--last": last is not None,
            "--resume": resume,
            "--to-file": to_file is not None,
        },
    )
    if not (follow or begins or resume) and to_file is None:
        raise UsageMistake("--no-follow ends with history: say which by --since, -n or --resume.")
    if to_file is not None:
        options.require_ndjson(output, columns, template)
        if len(types) > 1:
            raise UsageMistake("--to-file holds the entries of one channel: give one --channel.")

    user_ids = ids_of(users, settings)
    place = options.from_cursor(cursor, user_ids)
    if ack:
        options.confirm(settings, "acknowledge each entry", yes=yes)

    from lykke_cli.application.tail import TailRequest
    from lykke_cli.cli.runs.tail import Tailing
    from lykke_cli.cli.runtime import run_async

    make_tailing: Callable[..., Tailing] = Tailing
    if bridge is not None:
        from lykke_cli.cli.runs.remote import RemoteTailing

        make_tailing = partial(RemoteTailing, bridge=bridge)
    tailing = make_tailing(
        settings=settings,
        request=TailRequest(
            user_ids=set(user_ids) if user_ids else None,
            channel_types=types,
            filters=options.filters(
                activity_types=activity_type,
                excluded=exclude,
                entity_type=entity_type,
                entity_id=entity_id,
                until=end,
                query=query,
                grep=grep,
                not_grep=not_grep,
                any_message=not has_log,
            ),
            since=start,
            last=last,
            resume=place,
        ),
        has_history=has_history,
        resume=resume,
        count=count,
        timeout=limit,
        idle=None if idle is None else options.interval(idle),
        follows=follow,
        ack=ack,
        reconcile=options.interval(reconcile),
        full_pace=full_pace,
        health_interval=options.interval(health_interval),
        is_gap_unexpected=not (has_history or live_only) and has_log,
        file=options.entry_file(to_file, rotate, compress=compress),
        printing=printing,
    )
    recent.remember(user_ids, "tail", activity_type or ())
    run_async(tailing.run())


def _require_no_servers(given: Mapping[str, bool]) -> None:
    """Raise UsageMistake for an option that a bridge decides about, or does not offer."""
    for option in (name for name, is_given in given.items() if is_given):
        raise UsageMistake(f"{option} does not go with --from: {_INSTEAD.get(option, _BY_BRIDGE)}.")


_BY_BRIDGE = "the bridge asks Redis and the database, so leave it out"
_INSTEAD = {
    "--all": "name the users",
    "--channel": "a bridge gives what is on auditlog",
    "--ack": "it needs Redis, as `lykke publish USER_ID --ack EVENT_ID` does",
    "--live-only": "a bridge has a history; leave it out",
    "--cursor": "it is opened here, and what came since is read from the database",
}


_IN_STREAMS = "Without a database --resume goes with --transport stream, which keeps messages."


def _why_no_history(channels: Sequence[str] | None) -> str:
    """None is for --live-only."""
    unfit = "leave --since, -n, --resume and --no-follow out."
    if channels is None:
        return f"--live-only uses no database: {unfit}"
    if options.AUDIT_LOG not in channels:
        named = " and ".join(map(repr, channels))
        return f"The channel {named} has no history: {unfit}"
    return (
        "History needs the database: set DATABASE_URL, or give --database-url or a --profile "
        "that has one."
    )
