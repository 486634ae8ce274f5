"""Imports point down, and only where they may (docs/architecture.md)."""

from __future__ import annotations

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple

import pytest

ROOT: Final = Path(__file__).resolve().parents[1]
PACKAGE: Final = ROOT / "orderflow"

LAYERS: Final = {
    "": 0,  # orderflow/__init__.py: the version
    "core": 0,
    "bundled": 1,  # where the shipped settings and plugins lie
    "bybit": 1,
    "hooks": 1,
    "foreign": 2,
    "net": 2,
    "sim": 2,
    "config": 3,
    "logs": 3,
    "record": 2,
    "ui": 3,
    "signals": 3,
    "watchdog": 3,
    "bench": 4,
    "doctor": 4,
    "export": 4,
    "replay": 4,
    "soak": 4,
    "verify": 4,
    "app": 4,
    "stats": 4,
    "importing": 4,
    "isolates": 4,
    "recording": 4,
    "pictures": 4,
    "bookfile": 4,
    "serve": 4,
    "commands": 4,
    "cli": 4,
    "__main__": 4,
    "api": 2,  # for plugin authors: core and hooks
    "testing": 2,
}
SIBLINGS: Final = {  # of one layer, and yet one may use the other; and nobody else
    ("logs", "config"),  # masks config's secrets
    ("logs", "ui"),  # writes through ui.sink
    ("ui", "logs"),
    ("watchdog", "logs"),
    ("app", "signals"),
    ("app", "stats"),
    ("app", "isolates"),
    ("app", "recording"),
    ("app", "pictures"),
    ("app", "bookfile"),
    ("bench", "replay"),  # and the replay of a recording
    ("cli", "bench"),
    ("cli", "commands"),
    ("cli", "doctor"),
    ("cli", "importing"),
    ("cli", "soak"),
    ("cli", "replay"),
    ("cli", "verify"),
    ("cli", "export"),
    ("export", "replay"),  # ticks and alerts are what a replay gives
    ("", "export"),  # orderflow.open_recording, when it is used
    ("record", "net"),  # is an event queue, and shares the clocks
    ("sim", "record"),  # serves recordings
    ("sim", "foreign"),  # and other people's
    ("foreign", "record"),  # is turned into recordings
    ("soak", "app"),  # runs the monitor under faults
    ("bench", "app"),  # measures the monitor
    ("commands", "app"),
    ("commands", "serve"),
    ("commands", "doctor"),
    ("__main__", "cli"),
    ("testing", "api"),
}
OUTSIDE: Final = {  # what a package may use beside the standard library and orderflow
    "core": {"msgspec", "sortedcontainers"},
    "bybit": {"msgspec", "cryptography"},
    "hooks": {"msgspec", "pluggy", "trio"},
    "net": {"msgspec", "trio", "trio_websocket", "wsproto", "h11", "httpx", "certifi", "hypercorn"},
    "record": {"msgspec", "trio", "zstandard"},
    "foreign": {"msgspec"},
    "sim": {"msgspec", "trio", "wsproto", "h11", "sortedcontainers", "cryptography"},
    "config": {"msgspec", "dynaconf"},
    "ui": {"msgspec", "trio", "rich", "prometheus_client"},
    "logs": set[str](),
    "api": {"msgspec"},
}
ONLY_IN: Final = {  # a library and the files that may know of it
    "trio_websocket": {"net/ws.py", "bench/"},
    "dynaconf": {"config/"},
    "httpx": {"net/"},
    "rich": {"ui/", "bench/"},
    "pluggy": {"hooks/", "api.py"},
    "shtab": {"cli.py"},
    "hypercorn": {"net/http.py"},
    "prometheus_client": {"ui/prometheus.py"},
    "zstandard": {"record/"},
    "numpy": {"export/"},
    "pyarrow": {"export/"},
    "polars": {"export/views.py"},
    "pandas": {"export/views.py"},
    "duckdb": {"export/views.py"},
}
HEAVY: Final = (
    *("cryptography", "dynaconf", "httpx", "hypercorn", "prometheus_client", "numpy", "pandas", "rich", "shtab"),
    *("ssl_certs", "asyncio", "pyarrow", "polars", "duckdb"),
)


class Import(NamedTuple):
    file: str  # relative to the package
    line: int
    module: str


def unit(module: str) -> str:
    """`orderflow.core.book` -> `core`."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else ""


def imports_of(path: Path, root: Path) -> list[Import]:
    found: list[Import] = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            assert node.module is not None
            names = [node.module]
            if node.module == "orderflow":
                names = [f"orderflow.{alias.name}" for alias in node.names if not alias.name.startswith("__")]
        found += [Import(path.relative_to(root).as_posix(), node.lineno, name) for name in names]
    return found


@cache
def package_imports() -> tuple[Import, ...]:
    return tuple(found for path in sorted(PACKAGE.rglob("*.py")) for found in imports_of(path, PACKAGE))


def own_unit(file: str) -> str:
    first = file.split("/")[0].removesuffix(".py")
    return "" if first == "__init__" else first


def test_every_module_has_its_layer() -> None:
    units = {own_unit(path.relative_to(PACKAGE).as_posix()) for path in PACKAGE.rglob("*.py")}
    assert units - LAYERS.keys() == set()


def test_imports_point_down() -> None:
    upward = []
    for found in package_imports():
        if not found.module.startswith("orderflow"):
            continue
        here, there = own_unit(found.file), unit(found.module)
        if here == there or (here, there) in SIBLINGS or LAYERS[there] < LAYERS[here]:
            continue
        upward.append(f"{found.file}:{found.line} imports {found.module}")
    assert upward == []


def test_packages_use_only_the_libraries_that_are_theirs() -> None:
    foreign = []
    for found in package_imports():
        top = found.module.split(".")[0]
        allowed = OUTSIDE.get(own_unit(found.file))
        if allowed is None or top == "orderflow" or top in sys.stdlib_module_names or top in allowed:
            continue
        foreign.append(f"{found.file}:{found.line} imports {found.module}")
    assert foreign == []


@pytest.mark.parametrize("library", ONLY_IN)
def test_a_library_stays_where_it_is_at_home(library: str) -> None:
    homes = tuple(ONLY_IN[library])
    strays = [
        f"{found.file}:{found.line}"
        for found in package_imports()
        if found.module.split(".")[0] == library and not found.file.startswith(homes)
    ]
    assert strays == []


def test_core_and_the_protocol_touch_no_clock_socket_file_or_log() -> None:
    banned = {"socket", "ssl", "asyncio", "threading", "subprocess", "logging", "time", "select", "signal", "os"}
    strays = [
        f"{found.file}:{found.line} imports {found.module}"
        for found in package_imports()
        if own_unit(found.file) in ("core", "bybit") and found.module.split(".")[0] in banned
    ]
    assert strays == []


def test_plugins_need_the_public_names_only() -> None:
    folder = ROOT / "plugins"
    strays = [
        f"{found.file}:{found.line} imports {found.module}"
        for path in folder.glob("*.py")
        for found in imports_of(path, folder)
        if found.module.startswith("orderflow") and found.module != "orderflow.api"
    ]
    assert strays == []


def loaded_by(code: str) -> set[str]:
    """Top-level modules in memory after running `code` in a fresh interpreter."""
    script = f"{code}\nimport sys\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "code", ["import orderflow.app", "from orderflow.cli import build_parser; build_parser()"], ids=["app", "cli"]
)
def test_what_a_run_does_not_need_is_not_loaded(code: str) -> None:
    assert loaded_by(code) & set(HEAVY) == set()


def test_importing_the_api_is_cheap() -> None:
    assert loaded_by("import orderflow.api") & {*HEAVY, "trio", "trio_websocket"} == set()


def test_broad_excepts_stand_at_the_named_borders_only() -> None:
    """`except Exception` (or wider) contains a plugin call, a probe of the doctor, the end of a command or of a process
    of the bench, one client of the HTTP port, the writing of a log line, and what is read for a task, which raises it.
    """
    borders = (
        "hooks/",
        "doctor/",
        "cli.py",
        "commands.py",
        "__main__.py",
        "bench/",
        "logs.py",
        "net/http.py",
        "net/pump.py",
    )
    strays = []
    for path in sorted(PACKAGE.rglob("*.py")):
        file = path.relative_to(PACKAGE).as_posix()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.ExceptHandler) or file.startswith(borders):
                continue
            broad = node.type is None or (isinstance(node.type, ast.Name) and node.type.id in _BROAD)
            if broad and not any(isinstance(inner, ast.Raise) and inner.exc is None for inner in ast.walk(node)):
                strays.append(f"{file}:{node.lineno}")
    assert strays == []


_BROAD: Final = ("Exception", "BaseException")
