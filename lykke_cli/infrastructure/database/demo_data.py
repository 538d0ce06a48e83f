"""What the demo's database holds before anybody looks: users, and what they did."""

from collections.abc import Sequence

import sqlalchemy as sa

from lykke_cli.application.simulation import Person
from lykke_cli.domain.audit_log import AuditLogEntity
from lykke_cli.infrastructure.database.audit_log_table import audit_log_table
from lykke_cli.infrastructure.database.engine import make_engine
from lykke_cli.infrastructure.database.errors import database_errors
from lykke_cli.infrastructure.database.urls import display_url

_USERS = sa.Table(
    "users",
    sa.MetaData(),
    sa.Column("id", sa.Uuid, primary_key=True),
    sa.Column("email", sa.String, nullable=False, unique=True),
)


async def write_demo_data(
    url: str, people: Sequence[Person], entries: Sequence[AuditLogEntity]
) -> None:
    """Make the table `users` in a database that has an empty `audit_logs`, and fill both at once.

    Nothing is broadcast. Raises ServerUnavailable.
    """
    engine = make_engine(url)
    try:
        with database_errors(display_url(url)):
            async with engine.begin() as connection:
                await connection.run_sync(_USERS.create)
                users = [{"id": person.id, "email": person.email} for person in people]
                await connection.execute(_USERS.insert(), users)
                table = await audit_log_table(connection, display_url(url))
                await connection.execute(table.insert(), [table.row(entry) for entry in entries])
    finally:
        await engine.dispose()
