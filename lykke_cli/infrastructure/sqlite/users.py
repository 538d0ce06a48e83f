"""UsersProtocol on SQLite."""

from collections.abc import Collection, Mapping, Sequence

from lykke_cli.application.errors import BadInput
from lykke_cli.application.gateways.statistics_protocol import Scope
from lykke_cli.application.gateways.users_protocol import ActiveUser
from lykke_cli.application.messages import canonical_id
from lykke_cli.infrastructure.database.patterns import like
from lykke_cli.infrastructure.sqlite.reader import SqliteReader
from lykke_cli.infrastructure.sqlite.selection import IN_RANGE, as_list, in_scope

_HAVE_EMAILS = """
    SELECT count(*) = 2 FROM pragma_table_info('users') WHERE name IN ('id', 'email')
"""
_ACTIVE = f"""
    SELECT user_id, count(*), max(occurred_at) AS last, NULL FROM audit_logs
    WHERE {IN_RANGE} GROUP BY user_id ORDER BY last DESC, user_id LIMIT :limit
"""  # noqa: S608
# Either table may hold ids with or without dashes.
_ACTIVE_WITH_EMAILS = f"""
    SELECT user_id, entries, last, users.email
    FROM (
        SELECT user_id, count(*) AS entries, max(occurred_at) AS last
        FROM audit_logs WHERE {IN_RANGE} GROUP BY user_id
    ) LEFT JOIN users ON replace(users.id, '-', '') = replace(user_id, '-', '')
    WHERE :email IS NULL OR users.email LIKE :email ESCAPE '\\'
    ORDER BY last DESC, user_id LIMIT :limit
"""  # noqa: S608
_EMAILS = """
    SELECT id, email FROM users
    WHERE id IN (SELECT value FROM json_each(:ids)) AND email IS NOT NULL
"""
_WITH_EMAIL = """
    SELECT id FROM users WHERE lower(email) = lower(:email) ORDER BY 1 LIMIT :limit
"""

_WITH_START = """
    SELECT DISTINCT user_id FROM audit_logs
    WHERE user_id BETWEEN :start AND :start || 'g' OR user_id BETWEEN :digits AND :digits || 'g'
    ORDER BY replace(user_id, '-', '') LIMIT 2 * :limit
"""


class SqliteUsers(SqliteReader):
    """Opened on entering; `url` is sqlite:///path."""

    async def have_emails(self) -> bool:
        [(there,)] = await self.fetch(_HAVE_EMAILS, {})
        return bool(there)

    async def active(
        self, scope: Scope, limit: int, email: str | None = None
    ) -> Sequence[ActiveUser]:
        pattern = None if email is None else like(email)
        query = _ACTIVE_WITH_EMAILS if await self.have_emails() else _ACTIVE
        arguments = in_scope(scope) | {"limit": limit, "email": pattern}
        return [
            ActiveUser(self._id(user), entries, self.moment(last), email and str(email))
            for user, entries, last, email in await self.fetch(query, arguments)
        ]

    async def emails(self, user_ids: Collection[str]) -> Mapping[str, str]:
        spellings = {spelling: id for id in user_ids for spelling in (id, id.replace("-", ""))}
        found = await self.fetch(_EMAILS, {"ids": as_list(spellings)})
        return {spellings[id]: str(email) for id, email in found}

    async def with_email(self, email: str, limit: int) -> Sequence[str]:
        found = await self.fetch(_WITH_EMAIL, {"email": email, "limit": limit})
        return [str(id) for (id,) in found]

    async def with_start(self, start: str, limit: int) -> Sequence[str]:
        arguments = {"start": start, "digits": start.replace("-", ""), "limit": limit}
        found = [self._id(id) for (id,) in await self.fetch(_WITH_START, arguments)]
        return list(dict.fromkeys(found))[:limit]  # each may be there with dashes and without

    def _id(self, stored: str) -> str:
        try:
            return canonical_id(stored)
        except (TypeError, ValueError, AttributeError) as error:
            raise BadInput(
                f"The database at {self._display} has an entry of the user {str(stored)[:40]!r}."
            ) from error
