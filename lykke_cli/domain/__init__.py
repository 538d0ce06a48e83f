"""What an audit log entry is, and its rules. Nothing here knows a server or a terminal."""
