"""Recordings: what came off the sockets and what the engine was fed, in one append-only format (docs/recording.md)."""
