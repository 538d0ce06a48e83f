"""The audit log entry: an immutable record of what a user did."""

import uuid
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Any, NoReturn

from lykke_cli.domain.errors import ImmutableEntityError, InvalidEntityError


class ActivityType(StrEnum):
    """The activity types with a factory of their own; any other string is as good."""

    TASK_COMPLETED = "TASK_COMPLETED"
    TASK_PUNTED = "TASK_PUNTED"
    MESSAGE_SENT = "MESSAGE_SENT"
    MESSAGE_RECEIVED = "MESSAGE_RECEIVED"


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, kw_only=True, slots=True, eq=True)
class AuditLogEntity:
    """One entry of a user's audit log.

    Changing or deleting an entry, or one of its fields, raises ImmutableEntityError, which
    is a DomainError. A field of the wrong kind raises InvalidEntityError on construction.
    """

    user_id: uuid.UUID
    """Whose activity it is."""
    activity_type: str
    """What happened: an ActivityType, or any other non-empty string, kept unchanged."""
    occurred_at: datetime = field(default_factory=_now)
    """When it happened: time-zone aware; kept in UTC."""
    entity_id: uuid.UUID | None = None
    """What it happened to, if anything."""
    entity_type: str | None = None
    """The kind of thing `entity_id` names."""
    meta: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """Free JSON details; copied on construction, read-only afterwards. None becomes `{}`."""
    id: uuid.UUID = field(default_factory=uuid.uuid4)
    """The entry's own identity."""

    def __post_init__(self) -> None:
        for name in ("id", "user_id"):
            if not isinstance(getattr(self, name), uuid.UUID):
                raise InvalidEntityError(f"{name} must be a UUID")
        if self.entity_id is not None and not isinstance(self.entity_id, uuid.UUID):
            raise InvalidEntityError("entity_id must be a UUID or None")
        if not self.activity_type or not isinstance(self.activity_type, str):
            raise InvalidEntityError("activity_type must be a non-empty string")
        if getattr(self.occurred_at, "tzinfo", None) is None:
            raise InvalidEntityError("occurred_at must be a datetime with a time zone")
        object.__setattr__(self, "activity_type", str(self.activity_type))
        object.__setattr__(self, "occurred_at", self.occurred_at.astimezone(UTC))
        meta: object = self.meta
        if meta is None:
            meta = {}
        if not isinstance(meta, Mapping):
            raise InvalidEntityError("meta must be a mapping")
        try:
            copy = deepcopy(dict(meta))
        except RecursionError as error:
            raise InvalidEntityError("meta is nested too deeply") from error
        object.__setattr__(self, "meta", MappingProxyType(copy))

    @classmethod
    def create_task_completed(
        cls, user_id: uuid.UUID, task_id: uuid.UUID, meta: Mapping[str, Any] | None = None
    ) -> "AuditLogEntity":
        """The user completed the task `task_id`, now."""
        return cls._about(ActivityType.TASK_COMPLETED, user_id, task_id, "task", meta)

    @classmethod
    def create_task_punted(
        cls, user_id: uuid.UUID, task_id: uuid.UUID, meta: Mapping[str, Any] | None = None
    ) -> "AuditLogEntity":
        """The user put the task `task_id` off, now."""
        return cls._about(ActivityType.TASK_PUNTED, user_id, task_id, "task", meta)

    @classmethod
    def create_message_sent(
        cls, user_id: uuid.UUID, message_id: uuid.UUID, meta: Mapping[str, Any] | None = None
    ) -> "AuditLogEntity":
        """The user sent the message `message_id`, now."""
        return cls._about(ActivityType.MESSAGE_SENT, user_id, message_id, "message", meta)

    @classmethod
    def create_message_received(
        cls, user_id: uuid.UUID, message_id: uuid.UUID, meta: Mapping[str, Any] | None = None
    ) -> "AuditLogEntity":
        """The user received the message `message_id`, now."""
        return cls._about(ActivityType.MESSAGE_RECEIVED, user_id, message_id, "message", meta)

    @classmethod
    def _about(
        cls,
        activity: ActivityType,
        user_id: uuid.UUID,
        entity_id: uuid.UUID,
        entity_type: str,
        meta: Mapping[str, Any] | None,
    ) -> "AuditLogEntity":
        return cls(
            user_id=user_id,
            activity_type=activity,
            entity_id=entity_id,
            entity_type=entity_type,
            meta=meta or {},
        )

    def update(self, **changes: object) -> NoReturn:
        """Always raises ImmutableEntityError: history is not rewritten."""
        raise ImmutableEntityError

    def delete(self) -> NoReturn:
        """Always raises ImmutableEntityError: history is not erased."""
        raise ImmutableEntityError


def _refuse(self: AuditLogEntity, *_: object) -> NoReturn:
    raise ImmutableEntityError


# The frozen dataclass would raise an AttributeError of its own; callers are promised a DomainError.
AuditLogEntity.__setattr__ = _refuse  # type: ignore[method-assign,assignment]
AuditLogEntity.__delattr__ = _refuse  # type: ignore[method-assign,assignment]
