"""The command: what is examined, in which order it is told, and with which exit code."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import trio

from orderflow import logs
from orderflow.config.load import load
from orderflow.core.errors import ConfigError
from orderflow.doctor import local
from orderflow.doctor.exam import Exam, examine
from orderflow.doctor.findings import exit_code, skipped, to_json, to_text
from orderflow.hooks.printed import prints_logged

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Mapping

    from orderflow.config.load import Loaded
    from orderflow.doctor.findings import Check

LIMIT_S: Final = 30.0
INTERRUPTED: Final = 130
_WAITING: Final = f"looking, for {LIMIT_S:g} s at the most ..."


def main(args: argparse.Namespace, options: Mapping[str, object]) -> int:
    """`orderflow doctor`. Args: args: env, config, json. Returns: the exit code (docs/operations.md)."""
    logs.configure("error")
    with _saying_wait(args), prints_logged():  # plugins are loaded, and some print
        checks = _examine(args, options)
    logs.flush()
    if checks is None:
        return INTERRUPTED
    sys.stdout.write((to_json(checks) if args.json else to_text(checks, colour=_wants_colour())) + "\n")
    return exit_code(checks)


def _examine(args: argparse.Namespace, options: Mapping[str, object]) -> list[Check] | None:
    """None: Ctrl-C came before there was a verdict."""
    checks = None
    try:
        checks = trio.run(examine_all, args, options)
    except* KeyboardInterrupt:
        pass
    return checks


@contextmanager
def _saying_wait(args: argparse.Namespace) -> Iterator[None]:
    """A line on a terminal meanwhile, gone afterwards."""
    if args.json or sys.stderr is None or not sys.stderr.isatty():
        yield
        return
    sys.stderr.write(_WAITING)
    sys.stderr.flush()
    try:
        yield
    finally:
        sys.stderr.write("\r" + " " * len(_WAITING) + "\r")
        sys.stderr.flush()


def _wants_colour() -> bool:
    dumb = os.environ.get("TERM", "dumb") == "dumb"
    return sys.stdout.isatty() and not dumb and not os.environ.get("NO_COLOR")


async def examine_all(args: argparse.Namespace, options: Mapping[str, object]) -> list[Check]:
    """Every check, in the order it is told. Raises nothing on account of what it finds."""
    loaded, problems = _load(args, options)
    exams = [Exam("settings", lambda: local.check_settings(loaded, problems))]
    exams += [Exam("python", local.check_python), Exam("packages", local.check_packages)]
    setting = loaded.settings.emoji if loaded else "auto"
    exams += [Exam("output", lambda: local.check_output(setting)), Exam("disk", local.check_disk)]
    if loaded is None:
        return [
            *await examine(exams, LIMIT_S),
            *(skipped(name, "settings are wrong") for name in ("plugins", "credentials", "network")),
        ]
    from orderflow.doctor.network import network_exams
    from orderflow.doctor.recording import check_recording

    settings = loaded.settings
    exams.append(Exam("recording", lambda: check_recording(settings)))
    exams.append(Exam("plugins", lambda: local.check_plugins(settings.plugins)))
    exams += network_exams(settings)
    return await examine(exams, LIMIT_S)


def _load(args: argparse.Namespace, options: Mapping[str, object]) -> tuple[Loaded | None, tuple[str, ...]]:
    """The settings, or what is wrong with them."""
    try:
        loaded = load(env=args.env, options=options, settings_file=args.config)
    except ConfigError as exc:
        return None, exc.problems
    logs.register_secret(loaded.settings.bybit.api_key)
    logs.register_secret(loaded.settings.bybit.api_secret)
    return loaded, ()
