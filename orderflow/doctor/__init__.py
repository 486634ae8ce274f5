"""`orderflow doctor`: everything a run depends on is tried, and what does not work is said with its cure.

local.py    settings, Python and packages, output, disk, plugins, credentials as written
rest.py     REST, the exchange's clock, instruments, what the API key may do
links.py    name look-up, the public WebSockets and their books, the private WebSocket
exam.py     runs checks side by side, each with an end;  findings.py  what comes out, as text and JSON
"""

from __future__ import annotations

from orderflow.doctor.command import main

__all__ = ["main"]
