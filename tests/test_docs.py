"""The pages name everything a user can meet, links lead somewhere, and no file tells of the machine it came from."""

from __future__ import annotations

import argparse
import inspect
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec
import pytest

from orderflow import cli
from orderflow.config.tree import Settings
from orderflow.core import errors
from orderflow.core.types import BookState
from orderflow.hooks import specs

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT: Final = Path(__file__).resolve().parents[1]
PAGES: Final = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])


@cache
def text_of(*names: str) -> str:
    pages = PAGES if not names else [ROOT / name for name in names]
    return "\n".join(page.read_text(encoding="utf-8") for page in pages)


def is_named(word: str, text: str) -> bool:
    """Whether `word` stands in `text` by itself, not as a part of a longer name."""
    return re.search(rf"(?<![\w-]){re.escape(word)}(?![\w-])", text) is not None


def setting_leaves(struct: type[msgspec.Struct], prefix: str = "") -> Iterator[str]:
    for field in msgspec.structs.fields(struct):
        if isinstance(field.type, type) and issubclass(field.type, msgspec.Struct):
            yield from setting_leaves(field.type, f"{prefix}{field.name}.")
        elif field.name != "tables":  # [plugins.<name>]: the plugins' own
            yield prefix + field.name


def options(parser: argparse.ArgumentParser, command: str = "") -> Iterator[tuple[str, str]]:
    """(command, option or sub-command) of the whole command line."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, below in action.choices.items():
                yield command, name
                yield from options(below, f"{command} {name}".strip())
        else:
            yield from ((command, option) for option in action.option_strings if option.startswith("--"))


@pytest.mark.parametrize("key", list(setting_leaves(Settings)))
def test_every_setting_is_documented(key: str) -> None:
    text = text_of("docs/configuration.md")
    found = is_named(key, text) or is_named(key.rpartition(".")[2], text)
    assert found, f"docs/configuration.md does not name {key}"


ERRORS: Final = [
    name
    for name, item in vars(errors).items()
    if inspect.isclass(item) and issubclass(item, Exception) and item.__module__ == errors.__name__
]


@pytest.mark.parametrize("name", ERRORS)
def test_every_error_class_is_documented(name: str) -> None:
    found = is_named(name, text_of())
    assert found, f"no page names {name}"


HOOKS: Final = [name for name, item in vars(specs).items() if name.startswith("orderflow_") and callable(item)]


@pytest.mark.parametrize("hook", HOOKS)
def test_every_hook_is_documented(hook: str) -> None:
    found = is_named(hook, text_of("docs/plugins.md"))
    assert found, f"docs/plugins.md does not name {hook}"


def test_there_are_hooks_and_errors_to_look_for() -> None:
    assert len(HOOKS) >= 5
    assert len(ERRORS) >= 10


@pytest.mark.parametrize("state", list(BookState))
def test_every_book_state_is_documented(state: BookState) -> None:
    found = f"`{state}`" in text_of()
    assert found, f"no page names the state {state}"


@pytest.mark.parametrize("code", re.findall(r"^  ([0-9/]+) ", cli.EXIT_CODES, re.MULTILINE))
def test_every_exit_code_is_documented(code: str) -> None:
    for one in code.split("/"):
        found = re.search(rf"\|[^|\n]*\b{one}\b[^|\n]*\|", text_of("docs/operations.md"))
        assert found, f"docs/operations.md has no exit code {one} in a table"


OPTIONS: Final = [found for found in options(cli.build_parser()) if found[1] not in ("--help", "--version")]


@pytest.mark.parametrize(("command", "option"), OPTIONS, ids=[f"{command} {name}".strip() for command, name in OPTIONS])
def test_every_command_and_option_is_documented(command: str, option: str) -> None:
    found = is_named(option, text_of())
    assert found, f"no page names {option} of `{' '.join(('orderflow', command)).strip()}`"


# --- links


def slug(heading: str) -> str:
    """The anchor that a heading gets."""
    kept = re.sub(r"[^\w\- ]", "", re.sub(r"[`*]", "", heading).strip().lower())
    return kept.replace(" ", "-")


def links(page: Path) -> Iterator[str]:
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    yield from re.findall(r"\]\(<?([^)\s>]+)>?(?: \"[^\"]*\")?\)", text)
    yield from re.findall(r"(?:src|href)=\"([^\"]+)\"", text)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_relative_links_lead_somewhere(page: Path) -> None:
    broken = []
    for link in links(page):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or not target.is_relative_to(ROOT):
            broken.append(link)
        elif anchor and target.suffix == ".md":
            headings = re.findall(r"^#+ (.+)$", target.read_text(encoding="utf-8"), re.MULTILINE)
            if anchor not in map(slug, headings):
                broken.append(link)
    assert broken == []


def test_every_page_can_be_found_from_the_readme() -> None:
    seen: set[Path] = set()
    waiting = [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        if page in seen:
            continue
        seen.add(page)
        targets = ((page.parent / link.partition("#")[0]).resolve() for link in links(page) if ":" not in link)
        waiting += [target for target in targets if target.suffix == ".md" and target.is_file()]
    assert {page.name for page in ROOT.glob("docs/*.md")} <= {page.name for page in seen}


def test_every_test_that_a_page_names_is_there() -> None:
    named = set(re.findall(r"(?:`|::)(test_\w+)`", (ROOT / "docs" / "testing.md").read_text(encoding="utf-8")))
    there = set()
    for path in ROOT.glob("tests/**/*.py"):
        there |= set(re.findall(r"def (test_\w+)", path.read_text(encoding="utf-8")))
    assert len(named) > 20
    assert named - there == set()


# --- where we come from is nobody's business

_HOSTS: Final = ("pypi" + ".org", "python" + "hosted", "npm" + "js", "artifact" + "ory", "sim" + "ple/ -")
_PATHS: Final = ("/work" + "/", "/root" + "/", "/home" + "/", "bash" + "_jobs")


def tracked() -> list[Path]:
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("no git work tree")
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [ROOT / name for name in names.split("\0") if name and (ROOT / name).is_file()]


def test_no_registry_host_and_no_path_of_a_machine_in_any_file() -> None:
    found = []
    for path in tracked():
        text = path.read_bytes().decode("utf-8", "replace")
        for trace in (*_HOSTS, *_PATHS):
            for match in re.finditer(rf"(?<![\w.]){re.escape(trace)}", text):
                found.append(f"{path.relative_to(ROOT)}:{text.count(chr(10), 0, match.start()) + 1}: {trace}")
    assert found == []
