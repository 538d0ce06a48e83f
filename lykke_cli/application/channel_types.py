"""The types of channels: the part of a channel's name before the user."""

AUDIT_LOG = "auditlog"
"""The type of the channels that entries travel on, and the only one with a history."""
CHANNEL_TYPES = (AUDIT_LOG, "notification", "domain-events")
"""Those so far; any other is as good, and on all but the audit log's every JSON object is shown."""
