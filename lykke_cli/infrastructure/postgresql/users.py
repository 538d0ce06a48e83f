"""UsersProtocol on PostgreSQL."""

from collections.abc import Collection, Mapping, Sequence

from lykke_cli.application.gateways.statistics_protocol import Scope
from lykke_cli.application.gateways.users_protocol import ActiveUser
from lykke_cli.infrastructure.database.patterns import like
from lykke_cli.infrastructure.postgresql.reader import PostgresReader
from lykke_cli.infrastructure.postgresql.selection import IN_RANGE, in_scope

# The table that an unqualified `users` means, if there is one, and these rights on its columns.
_HAVE_EMAILS = """
    SELECT count(*) = 2 FROM pg_attribute
    WHERE attrelid = to_regclass('users') AND attname IN ('id', 'email') AND attnum > 0
        AND NOT attisdropped AND has_column_privilege(attrelid, attnum, 'SELECT')
"""
_ACTIVE = f"""
    SELECT user_id::text, count(*), max(occurred_at)::timestamptz, NULL
    FROM audit_logs WHERE {IN_RANGE}
    GROUP BY user_id ORDER BY max(occurred_at) DESC, user_id LIMIT $9::int8
"""  # noqa: S608
# Ids are compared as text: the application's users need not have the same type of id.
_ACTIVE_WITH_EMAILS = f"""
    SELECT user_id::text, entries, last::timestamptz, users.email::text
    FROM (
        SELECT user_id, count(*) AS entries, max(occurred_at) AS last
        FROM audit_logs WHERE {IN_RANGE} GROUP BY user_id
    ) AS active LEFT JOIN users ON users.id::text = user_id::text
    WHERE $10::text IS NULL OR users.email::text ILIKE $10
    ORDER BY last DESC, user_id LIMIT $9::int8
"""  # noqa: S608
_ID_TYPE = """
    SELECT atttypid::regtype::text FROM pg_attribute
    WHERE attrelid = to_regclass('users') AND attname = 'id'
"""
_EMAILS = "SELECT id::text, email::text FROM users WHERE email IS NOT NULL AND "
_EMAILS_ANYHOW = f"{_EMAILS} id::text = ANY($1::text[])"
_EMAILS_BY_INDEX = {  # on the id
    "uuid": f"{_EMAILS} id = ANY($1::text[]::uuid[])",
    "text": f"{_EMAILS} id = ANY($1::text[])",
    "character varying": f"{_EMAILS} id = ANY($1::text[])",
}
_WITH_EMAIL = """
    SELECT id::text FROM users WHERE lower(email::text) = lower($1) ORDER BY 1 LIMIT $2::int8
"""

# One look-up in an index for each user, however many entries there are.
_FIRST = """
    SELECT user_id::text FROM audit_logs
    WHERE user_id >= $1::text::uuid AND user_id <= $2::text::uuid ORDER BY user_id LIMIT 1
"""
_NEXT = """
    SELECT user_id::text FROM audit_logs
    WHERE user_id > $1::text::uuid AND user_id <= $2::text::uuid ORDER BY user_id LIMIT 1
"""


class PostgresUsers(PostgresReader):
    """Opened on entering; `url` as in DATABASE_URL."""

    async def have_emails(self) -> bool:
        [[there]] = await self.fetch(_HAVE_EMAILS)
        return bool(there)

    async def active(
        self, scope: Scope, limit: int, email: str | None = None
    ) -> Sequence[ActiveUser]:
        arguments = (*in_scope(scope), limit)
        if await self.have_emails():
            pattern = None if email is None else like(email)
            records = await self.fetch(_ACTIVE_WITH_EMAILS, *arguments, pattern)
        else:
            records = await self.fetch(_ACTIVE, *arguments)
        return [ActiveUser(*record) for record in records]

    async def emails(self, user_ids: Collection[str]) -> Mapping[str, str]:
        [[type]] = await self.fetch(_ID_TYPE)
        query = _EMAILS_BY_INDEX.get(type, _EMAILS_ANYHOW)
        return dict(await self.fetch(query, list(user_ids)))

    async def with_email(self, email: str, limit: int) -> Sequence[str]:
        return [id for (id,) in await self.fetch(_WITH_EMAIL, email, limit)]

    async def with_start(self, start: str, limit: int) -> Sequence[str]:
        digits = start.replace("-", "")
        lowest, highest = digits.ljust(32, "0"), digits.ljust(32, "f")
        found = [user for (user,) in await self.fetch(_FIRST, lowest, highest)]
        while 0 < len(found) < limit and (records := await self.fetch(_NEXT, found[-1], highest)):
            found.append(records[0][0])
        return found
