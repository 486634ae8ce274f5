"""Recordings through the codec, books, metrics, plugins and alert rules of a live run, on the recording's own clock."""
