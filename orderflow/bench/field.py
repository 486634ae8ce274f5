"""Who else can be measured: the libraries of `rivals.py` that an interpreter has."""

from __future__ import annotations

import platform
import subprocess
import sys

import msgspec

from orderflow.bench.rivals import Field
from orderflow.bench.spawn import child_environment
from orderflow.core.errors import ConfigError
from orderflow.core.text import escape_text

_TIMEOUT_S = 30.0


def find_rivals(python: str = "") -> Field:
    """Ask an interpreter, this one by default. Raises: ConfigError when it is none, cannot be compared or has none."""
    shown = escape_text(python or sys.executable, 300)
    field = _ask(python or sys.executable, shown)
    ours = f"{platform.python_implementation()} {platform.python_version()}"
    if field.python != ours:
        raise ConfigError(
            f"option --peers-python: {shown}: is {escape_text(field.python, 50)}; expected {ours}, as ours"
        )
    if not field.rivals:
        raise ConfigError(f"option --peers: none is installed for {shown}: pip install 'bybit-orderflow[peers]'")
    return field


def _ask(python: str, shown: str) -> Field:
    """Raises: ConfigError."""
    command = [python, "-m", "orderflow.bench.rivals"]
    try:
        done = subprocess.run(command, capture_output=True, env=child_environment(), timeout=_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as exc:
        raise ConfigError(f"option --peers-python: {shown}: {escape_text(str(exc), 200)}; expected a Python") from None
    if done.returncode:
        lines = done.stderr.decode("utf-8", "replace").strip().splitlines() or ["no reason given"]
        raise ConfigError(f"option --peers-python: {shown}: cannot run a client: {escape_text(lines[-1], 200)}")
    try:
        return msgspec.json.decode(done.stdout, type=Field)
    except msgspec.MsgspecError:
        raise ConfigError(f"option --peers-python: {shown}: is no Python") from None
