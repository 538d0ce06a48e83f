"""The bridge: what a terminal is promised, over WebSockets, Server-Sent Events and HTTP."""
