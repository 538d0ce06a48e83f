"""One transaction, and what follows its commit."""

from types import TracebackType
from typing import Protocol, Self

from lykke_cli.domain.audit_log import AuditLogEntity


class UnitOfWorkProtocol(Protocol):
    """`async with uow: await uow.create(entity)` commits on a clean exit, and only then broadcasts.

    Any exception rolls back, and nothing is broadcast. Entering it again inside joins the outer
    block. A broadcast that fails is logged as an error; it neither undoes the commit nor raises.
    """

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...

    async def create(self, entity: AuditLogEntity) -> None:
        """Insert `entity`; it is broadcast after the commit, in the order of creation."""
        ...
