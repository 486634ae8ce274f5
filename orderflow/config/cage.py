"""The one place that touches dynaconf: it layers tables, and can do nothing else.

dynaconf would search parent folders, read `*.local.*`, `.env` and whatever `*_FOR_DYNACONF` variables or includes name,
import Python beside a settings file, and evaluate `@` tokens. Here it is given no file to find, an empty environment
while it is imported and built, none of its loaders, and tables whose leaves are opaque to it (`origin.Leaf`).
Reserved names (`dynaconf_merge`, `name__merge`, ...) were refused before (config/scan.py).
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from orderflow.config.origin import Document, Tree

_WORDS: Final = frozenset(
    (
        "@str",
        "@int",
        "@float",
        "@bool",
        "@json",
        "@format",
        "@jinja",
        "@reset",
        "@del",
        "@merge",
        "@merge_unique",
        "@insert",
        "@get",
        "@read_file",
        "@upper",
        "@lower",
        "@title",
        "@capitalize",
        "@strip",
        "@lstrip",
        "@rstrip",
        "@split",
        "@casefold",
        "@swapcase",
        "@note",
        "@comment",
        "@null",
        "@none",
        "@empty",
    )
)
"""Those of dynaconf 3.3; what is refused must not depend on which version is installed."""


def layer(documents: Iterable[Document], environment: str) -> Tree:
    """Merge documents, a later over an earlier one, in each the `default` table under the environment's.

    Tables merge key by key; a leaf replaces a leaf, lists included. Keys match regardless of case.

    Returns: the merged tables with lower-case names at the top level.
    """
    by_name = {f"{number} {document.name}": document.tables for number, document in enumerate(documents)}
    with _empty_environment():
        from dynaconf import Dynaconf
        from dynaconf.loaders.base import BaseLoader

        box = Dynaconf(
            settings_files=[],
            core_loaders=[],
            loaders=[],
            load_dotenv=False,
            environments=True,
            default_env="default",
            env=environment,
            merge_enabled=True,
            dotted_lookup=False,
            nested_separator=False,
            auto_cast=False,
            envvar_prefix=None,
        )
        # A loader asks `string_reader` for every source that has none of its file extensions: ours has none at all.
        loader = BaseLoader(
            box, environment, "toml", extensions=(), file_reader=None, string_reader=by_name.__getitem__
        )
        loader.load(filename=list(by_name))
        names = {name.lower() for tables in by_name.values() for tree in tables.values() for name in tree}
        return {name: _plain(box.get(name)) for name in sorted(names) if name in box}


def dynaconf_tokens() -> frozenset[str]:
    """The words that make dynaconf evaluate a text that begins with them: `@format`, `@jinja`, `@int`, ..."""
    with _empty_environment():
        from dynaconf.utils.parse_conf import converters

        return _WORDS | frozenset(converters)


@contextmanager
def _empty_environment() -> Iterator[None]:
    """dynaconf lets variables override even what it is told in code, and reads some of them when it is imported."""
    saved = dict(os.environ)
    os.environ.clear()
    try:
        yield
    finally:
        os.environ.update(saved)


def _plain(node: Any) -> Any:
    """dynaconf's dictionaries as dicts."""
    return {key: _plain(node[key]) for key in node} if isinstance(node, dict) else node
