"""`lykke relay`: from the table into the streams."""

from enum import StrEnum
from typing import Annotated

from lykke_cli.application.errors import UsageMistake
from lykke_cli.cli.arguments import options
from lykke_cli.infrastructure.redis.stream_layout import KEEP, MOST_PARTITIONS, PARTITIONS

LEADING = ("--since", "--also", "--partitions", "--keep", "--interval")
EPILOG = options.examples(
    "lykke relay",
    "lykke relay --since 7d --keep 100000",
    "lykke relay --also pubsub --metrics-port 9187",
)


class Also(StrEnum):
    """Where else entries are brought."""

    PUBSUB = "pubsub"


def relay(
    since: Annotated[
        str | None,
        options.range_option(
            "--since",
            metavar="TIME",
            help="Where a stream is new or was lost, write what occurred from here on; "
            "everything unless given.",
        ),
    ] = None,
    also: Annotated[
        Also | None,
        options.range_option(
            "--also",
            help="pubsub: publish what was committed and not heard on Pub/Sub within a second.",
        ),
    ] = None,
    partitions: Annotated[
        int | None,
        options.range_option(
            "--partitions",
            metavar="N",
            min=1,
            max=MOST_PARTITIONS,
            help=f"Streams that the users are spread among, {PARTITIONS} unless given; they stay "
            "as many.",
        ),
    ] = None,
    keep: Annotated[
        int,
        options.range_option(
            "--keep",
            metavar="N",
            min=1,
            help="Entries, about, that each stream keeps.",
            show_default=True,
        ),
    ] = KEEP,
    interval: Annotated[
        str,
        options.reliability_option(
            "--interval",
            metavar="DURATION",
            help="How often the table is read.",
            show_default=True,
        ),
    ] = "100ms",
    metrics_port: Annotated[
        int | None,
        options.output_option(
            "--metrics-port",
            metavar="PORT",
            min=0,
            max=65535,
            help="Answer GET /metrics there, as Prometheus reads it; 0 takes one that is free.",
        ),
    ] = None,
    metrics_host: Annotated[
        str | None,
        options.output_option(
            "--metrics-host",
            metavar="HOST",
            help="With --metrics-port: 127.0.0.1 unless given, which is this machine alone.",
        ),
    ] = None,
    redis_url: options.RedisUrl = None,
    database_url: options.DatabaseUrl = None,
    profile: options.ProfileName = None,
    quiet: options.Quiet = False,
) -> None:
    """Write every committed entry into Redis streams, from the table, in the order of commits.

    Nothing is lost with a process that dies between its commit and its broadcast: the table is the
    outbox. It needs SELECT there, and in Redis the keys auditlog:*. How far it has come is kept
    beside each stream, so a relay that is started again goes on exactly there. Start a second one
    to stand by, and it takes over ten seconds after the first one's last sign.
    """
    settings = options.settings(redis_url, database_url, profile, quiet=quiet)
    settings.required_database_url()
    if metrics_host is not None and metrics_port is None:
        raise UsageMistake("--metrics-host goes with --metrics-port.")
    start = None if since is None else options.moment(since, options.zone(settings, None, None))

    from lykke_cli.cli.runs.relay import Relaying
    from lykke_cli.cli.runtime import run_async

    relaying = Relaying(
        settings=settings,
        terminal=options.terminal(),
        since=start,
        with_broadcasts=also is Also.PUBSUB,
        partitions=partitions,
        keep=keep,
        interval=options.interval(interval),
        metrics=None if metrics_port is None else (metrics_host or "127.0.0.1", metrics_port),
        quiet=quiet,
    )
    run_async(relaying.run())
