"""`lykke serve`: the bridge for browsers and services."""

from typing import Annotated

import typer

from lykke_cli.cli.arguments import options

LEADING = ("--host", "--port", "--hostname", "--workers", "--drain")
EPILOG = options.examples(
    "lykke serve",
    "lykke serve --host 0.0.0.0 --hostname audit.example.com",
    "lykke serve --workers 4 --origin https://app.example.com",
)


def serve(
    host: Annotated[
        str,
        typer.Option(
            "--host",
            metavar="HOST",
            help="Where to listen; 0.0.0.0 is every address of this machine. Any but its own "
            "loopback needs tokens.",
        ),
    ] = "127.0.0.1",
    port: Annotated[
        int,
        typer.Option("--port", metavar="PORT", min=0, max=65535, help="0 takes one that is free."),
    ] = 8000,
    workers: Annotated[
        int,
        typer.Option(
            "--workers",
            metavar="N",
            min=1,
            max=256,
            help="Processes that share the port; one for each processor at most.",
        ),
    ] = 1,
    drain: Annotated[
        str,
        typer.Option(
            "--drain",
            metavar="DURATION",
            help="At SIGTERM clients are sent away over so long, so that they do not all come back "
            "at once. After Ctrl-C over 2 s.",
        ),
    ] = "30s",
    hostname: Annotated[
        list[str] | None,
        typer.Option(
            "--hostname",
            metavar="NAME",
            help="A name that clients know this server by; repeatable. Without one only the "
            "names of this machine itself are answered to.",
            show_default=False,
        ),
    ] = None,
    origin: Annotated[
        list[str] | None,
        options.server_option(
            "--origin",
            metavar="URL",
            help="Another site whose pages may ask, such as https://app.example.com; repeatable.",
        ),
    ] = None,
    metrics: Annotated[
        bool,
        options.output_option("--metrics/--no-metrics", help="Whether /metrics tells figures."),
    ] = True,
    page: Annotated[
        bool,
        options.output_option("--page/--no-page", help="Whether a page for people is at /."),
    ] = True,
    database_connections: Annotated[
        int,
        options.server_option(
            "--database-connections",
            metavar="N",
            min=1,
            max=100,
            help="Of each worker at most, however many clients there are.",
            show_default=True,
        ),
    ] = 4,
    reconcile: options.Reconcile = options.RECONCILE,
    health_interval: options.HealthInterval = options.HEALTH_INTERVAL,
    redis_url: options.RedisUrl = None,
    transport: options.TransportOption = None,
    database_url: options.DatabaseUrl = None,
    profile: options.ProfileName = None,
) -> None:
    """Serve users' entries to browsers and services: WebSocket, Server-Sent Events, HTTP.

    Each client gets every committed entry exactly once, across reconnects and restarts. Who may is
    said by LYKKE_SERVE_TOKEN, LYKKE_JWT_KEY or LYKKE_JWKS_URL; without any, on this machine alone,
    by a token that is made and printed. LYKKE_CURSOR_KEY lets clients go on after a restart.
    """
    settings = options.settings(redis_url, database_url, profile, transport=transport)
    settings.required_database_url()
    seconds = options.seconds(drain) or 0.0
    intervals = options.interval(reconcile), options.interval(health_interval)

    from lykke_cli.cli.runs.serve import Serving, require_extra

    require_extra()
    Serving(
        settings=settings,
        host=host,
        port=port,
        drain=seconds,
        hostnames=tuple(hostname or ()),
        origins=tuple(origin or ()),
        with_metrics=metrics,
        with_page=page,
        database_connections=database_connections,
        reconcile=intervals[0],
        health_interval=intervals[1],
    ).run(workers)
