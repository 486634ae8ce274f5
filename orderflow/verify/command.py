"""`orderflow verify`: the command."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

from orderflow.core.errors import ConfigError, MisuseError, RecordingError
from orderflow.core.text import escape_text
from orderflow.verify.report import encode_report, format_report
from orderflow.verify.run import verify

if TYPE_CHECKING:
    import argparse

EXIT_CLEAN: Final = 0
EXIT_DIFFERS: Final = 1


def main(args: argparse.Namespace) -> int:
    """Returns: the exit code. Raises: ConfigError, MisuseError."""
    allowed_ppm = _allowed(args.allow)
    try:
        report = verify(args.path, _progress if sys.stderr.isatty() else None)
    except RecordingError as error:
        raise ConfigError(escape_text(str(error), 1000)) from None
    finally:
        if sys.stderr.isatty():
            sys.stderr.write("\r\x1b[K")
    clean = report.clean(allowed_ppm)
    sys.stdout.write(encode_report(report, clean=clean) if args.json else format_report(report, clean=clean))
    sys.stdout.flush()
    return EXIT_CLEAN if clean else EXIT_DIFFERS


def _allowed(text: str) -> float:
    try:
        allowed = float(text)
    except ValueError:
        allowed = -1.0
    if not 0 <= allowed <= 1e6:
        raise MisuseError(f"--allow: {text!a}: expected parts per million, 0 to 1000000")
    return allowed


def _progress(share: float) -> None:
    sys.stderr.write(f"\r\x1b[K{share:.0%}")
    sys.stderr.flush()
