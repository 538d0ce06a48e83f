"""`lykke consume`: entries shared among the members of a group."""

import shlex
import sys
from typing import Annotated

import typer

from lykke_cli.application.errors import UsageMistake
from lykke_cli.application.groups import CLAIM_AFTER, MAX_DELIVERIES
from lykke_cli.cli.arguments import options

LEADING = ("--group", "--consumer", "--exec", "--activity-type", "--output")
EPILOG = options.examples(
    "lykke consume --group billing",
    "lykke consume --group billing --to-file billing.ndjson",
    "lykke consume --group billing --exec ./bill.sh --activity-type 'TASK_*'",
)


def consume(
    group: Annotated[
        str,
        typer.Option(
            "--group",
            metavar="NAME",
            help="The group that shares the entries: each comes to one member.",
            show_default=False,
        ),
    ],
    consumer: Annotated[
        str | None,
        typer.Option(
            "--consumer",
            metavar="NAME",
            help="This member: by the same name it goes on with what it held. Host and process "
            "unless given; with --to-file the file.",
            show_default=False,
        ),
    ] = None,
    command: Annotated[
        str | None,
        options.output_option(
            "--exec",
            metavar="CMD",
            help="Run this for each entry, which it reads as a line of JSON; acknowledged when it "
            "ends with 0.",
        ),
    ] = None,
    from_now: Annotated[
        bool,
        options.range_option(
            "--from-now", help="A new group begins now, not with all that the streams keep."
        ),
    ] = False,
    count: options.EndCount = None,
    idle: options.Idle = None,
    claim_after: Annotated[
        str,
        options.reliability_option(
            "--claim-after",
            metavar="DURATION",
            help="Take over what another member has not renewed for so long: it has died.",
            show_default=True,
        ),
    ] = f"{CLAIM_AFTER:g}s",
    max_deliveries: Annotated[
        int | None,
        options.reliability_option(
            "--max-deliveries",
            min=1,
            metavar="N",
            help="What was given out so often, and never acknowledged, goes to the dead letters; "
            f"{MAX_DELIVERIES} with --exec unless given.",
            show_default=False,
        ),
    ] = None,
    to_file: options.ToFile = None,
    rotate: options.Rotate = None,
    compress: options.Compress = False,
    channel: options.Channel = options.AUDIT_LOG,
    activity_type: options.ActivityTypes = None,
    exclude: options.Excluded = None,
    entity_type: options.EntityType = None,
    entity_id: options.EntityId = None,
    query: options.Query = None,
    grep: options.Grep = None,
    not_grep: options.NotGrep = None,
    output: options.OutputOption = None,
    columns: options.Columns = None,
    template: options.Template = None,
    utc: options.Utc = None,
    tz: options.TimeZone = None,
    wrap: options.Wrap = False,
    color: options.Color = None,
    redis_url: options.RedisUrl = None,
    profile: options.ProfileName = None,
    quiet: options.Quiet = False,
) -> None:
    """Share every user's entries among the members of a group.

    They come from the streams that lykke relay fills. An entry is acknowledged once it was printed,
    written or the command has ended well, and until then it comes again, to this member or another
    one. So each comes at least once, and into --to-file exactly once. What the filters pass over is
    acknowledged, too.
    """
    is_other = channel != options.AUDIT_LOG
    words = None if command is None else _words(command)
    if words is not None and (to_file or output or columns or template):
        raise UsageMistake("--exec takes the entries: leave -o, --template and --to-file out.")
    if to_file is not None:
        options.require_ndjson(output, columns, template)
        consumer = consumer or to_file.name
    if max_deliveries is None:  # a full disk or a closed pipe is no fault of the entries
        max_deliveries = sys.maxsize if words is None else MAX_DELIVERIES
    settings = options.settings(redis_url, None, profile, needs=("redis_url",), quiet=quiet)
    printing = options.printing(
        settings,
        output,
        utc=utc,
        tz=tz,
        color=color,
        wrap=wrap,
        quiet=quiet,
        columns=columns,
        template=template,
        any_message=is_other,
    )
    filters = options.filters(
        activity_types=activity_type,
        excluded=exclude,
        entity_type=entity_type,
        entity_id=entity_id,
        until=None,
        query=query,
        grep=grep,
        not_grep=not_grep,
        any_message=is_other,
    )

    from lykke_cli.cli.runs.consume import Consuming
    from lykke_cli.cli.runtime import run_async

    consuming = Consuming(
        settings=settings,
        channel_type=channel,
        group=group,
        consumer=consumer,
        claim_after=options.interval(claim_after),
        max_deliveries=max_deliveries,
        from_now=from_now,
        count=count,
        idle=None if idle is None else options.interval(idle),
        filters=filters,
        command=words,
        file=options.entry_file(to_file, rotate, compress=compress),
        printing=printing,
    )
    run_async(consuming.run())


def _words(command: str) -> list[str]:
    """What the shell would make of it, without what a shell does beyond that."""
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise UsageMistake(f"--exec {command!r} is no command: {error}.") from error
    if not words or not words[0]:
        raise UsageMistake("The command of --exec is empty.")
    return words
