"""`lykke record`: an audit log entry through the unit of work."""

from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import typer

from lykke_cli.application.errors import BadInput
from lykke_cli.cli.arguments import options
from lykke_cli.cli.runs.users import id_of
from lykke_cli.infrastructure.files import recent

if TYPE_CHECKING:
    from lykke_cli.domain.audit_log import AuditLogEntity
    from lykke_cli.infrastructure.configuration.settings import Settings

LEADING = ("--meta", "--entity-id", "--entity-type", "--occurred-at", "--profile")
EPILOG = options.examples(
    "lykke record USER_ID TASK_COMPLETED",
    "lykke record USER_ID TASK_PUNTED --meta days:=3",
    "lykke record USER_ID MESSAGE_SENT --occurred-at 2h",
)


def record(
    user: options.UserId,
    activity_type: Annotated[
        str, typer.Argument(metavar="ACTIVITY_TYPE", help="What happened: TASK_COMPLETED, ...")
    ],
    entity_id: Annotated[
        UUID | None,
        typer.Option(
            "--entity-id",
            metavar="UUID",
            parser=options.parse_uuid,
            help="What it happened to.",
            show_default=False,
        ),
    ] = None,
    entity_type: Annotated[
        str | None,
        typer.Option(
            "--entity-type", metavar="TYPE", help="The kind of thing it is.", show_default=False
        ),
    ] = None,
    meta: Annotated[
        list[str] | None,
        typer.Option(
            "--meta",
            metavar="KEY=VALUE",
            help="Details: key=text, key:=JSON, or a JSON object; repeat it for several.",
            show_default=False,
        ),
    ] = None,
    occurred_at: Annotated[
        str | None,
        typer.Option(
            "--occurred-at",
            metavar="TIME",
            help="When it happened: now, 15m, 14:05, or ISO 8601.",
            show_default=False,
        ),
    ] = None,
    channel: options.Channel = options.AUDIT_LOG,
    redis_url: options.RedisUrl = None,
    transport: options.TransportOption = None,
    database_url: options.DatabaseUrl = None,
    profile: options.ProfileName = None,
    yes: options.Yes = False,
    quiet: options.Quiet = False,
) -> None:
    """Record an entry: committed to the database, then broadcast. Prints it as JSON."""
    settings = options.settings(redis_url, database_url, profile, transport=transport, quiet=quiet)
    settings.required_database_url()

    from lykke_cli.application.messages import encode, entity_message
    from lykke_cli.cli.runtime import run_async
    from lykke_cli.domain.audit_log import AuditLogEntity

    details: dict[str, Any] = {}
    for text in meta or ():
        details |= _fields(text)
    user_id = id_of(user, settings)
    entity = AuditLogEntity(
        user_id=user_id,
        activity_type=activity_type,
        entity_id=entity_id,
        entity_type=entity_type,
        meta=details,
        occurred_at=options.moment(occurred_at or "now", options.zone(settings, None, None)),
    )
    message = encode(entity_message(entity))  # what cannot be sent is not stored either
    options.confirm(settings, f"record an entry of {user_id}", yes=yes)
    recent.remember([user_id], "record", [activity_type])
    run_async(_record(settings, entity, channel))
    if not quiet:
        options.terminal().write_json(message)


def _fields(text: str) -> dict[str, Any]:
    """What one --meta says; raises BadInput."""
    import orjson

    name, is_pair, value = text.partition("=")
    try:
        if text.lstrip().startswith("{"):
            fields: dict[str, Any] = _value(text)
            return fields
        if is_pair and name.endswith(":") and name != ":":
            return {name[:-1]: _value(value)}
        text.encode()  # what is no UTF-8 could not be sent
    except orjson.JSONDecodeError as error:
        raise BadInput(f"--meta {text!r} is not JSON: {error}.") from error
    except UnicodeEncodeError as error:
        raise BadInput(f"--meta {text!r} is not UTF-8.") from error
    if not is_pair or not name.rstrip(":"):
        raise BadInput(f"--meta {text!r} is neither key=value, nor key:=JSON, nor a JSON object.")
    return {name: value}


def _value(text: str) -> Any:
    """What JSON means; raises BadInput where a number of it cannot be kept."""
    import json

    import orjson

    value = orjson.loads(text.encode("utf-8", "surrogateescape"))
    try:
        json.loads(text, parse_int=_require_kept, parse_float=_require_kept)
    except RecursionError as error:
        raise BadInput("--meta is nested too deeply.") from error
    return value


def _require_kept(number: str) -> None:
    from decimal import Decimal, InvalidOperation

    import orjson

    kept = repr(orjson.loads(number))
    try:
        is_kept = Decimal(kept) == Decimal(number)
    except InvalidOperation:
        is_kept = False  # its exponent is beyond even Decimal's
    if not is_kept:
        raise BadInput(
            f"--meta: the number {number[:40]} would become {kept}; give it as a text, in quotes."
        )


async def _record(settings: "Settings", entity: "AuditLogEntity", channel: str) -> None:
    from lykke_cli.bootstrap import make_gateway, make_unit_of_work

    gateway = make_gateway(settings)
    try:
        uow = make_unit_of_work(settings, gateway, channel_type=channel)
        try:
            async with uow:
                await uow.create(entity)
        finally:
            await uow.close()
    finally:
        await gateway.close()
