"""Plugins that cannot be loaded: a file of each kind, refused with its line, and the good one beside it loads."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest
from msgspec import structs

from orderflow.config.tree import PluginSettings
from orderflow.core.errors import ConfigError
from orderflow.hooks.discovery import Origin, Source
from orderflow.hooks.loading import MODULE_PREFIX, PluginProblems, load
from orderflow.hooks.problems import Problem, ProblemKind
from orderflow.hooks.records import PluginState
from orderflow.hooks.samples import make_tick
from orderflow.hooks.setup import set_up
from tests.hooks.choice import choose
from tests.hooks.plugin_files import GOOD, HEAD, tick_hook, write_plugin

if TYPE_CHECKING:
    from pathlib import Path

NO_CONFIG = "from orderflow.api import hookimpl\nclass Plugin:\n    def __init__(self, config): pass\n"

# name: (file, what the problem says, text on the line it names)
REFUSED: dict[str, tuple[str, str, str]] = {
    "not Python": ("def orderflow_tick(:\n", "SyntaxError", "def orderflow_tick(:"),
    "bytes that are no text": ("x = '\udcff'\n", "loading failed", ""),
    "an import that is not there": ("import no_such_module_at_all\n", "no_such_module_at_all", "import no_such"),
    "an error at import": ("\n\nx = 1 / 0\n", "ZeroDivisionError", "x = 1 / 0"),
    "SystemExit at import": ("raise SystemExit\n", "SystemExit", "raise SystemExit"),
    "no Plugin": ("x = 1\n", "class Plugin", ""),
    "Plugin is no class": ("Plugin = 7\n", "Plugin is 7", ""),
    "no Config": (NO_CONFIG + GOOD, "no `class Config(PluginConfig)`", "class Plugin"),
    "Config is no struct": (NO_CONFIG + "    class Config: pass\n" + GOOD, "derive from PluginConfig", "class Config"),
    "Config not frozen": (
        "import msgspec\n" + NO_CONFIG + "    class Config(msgspec.Struct): pass\n" + GOOD,
        "frozen and forbid",
        "class Config",
    ),
    "Config with types that do not exist": (
        "from __future__ import annotations\nfrom orderflow.api import *\nclass Plugin:\n"
        "    class Config(PluginConfig):\n        a: Nonsense = 1\n    def __init__(self, config): pass\n" + GOOD,
        "Nonsense",
        "class Config",
    ),
    "Config.symbols": (
        HEAD.replace("limit: Positive", "symbols: Positive") + GOOD,
        "reserved for overrides",
        "class Config",
    ),
    "no __init__": (
        "from orderflow.api import *\nclass Plugin:\n    class Config(PluginConfig): pass\n" + GOOD,
        "no __init__",
        "class Plugin",
    ),
    "an __init__ with more arguments": (
        HEAD.replace("(self, config)", "(self, config, more)") + GOOD,
        "__init__ must take the configs",
        "def __init__",
    ),
    "an __init__ that raises": (HEAD + "        self.x = 1 / 0\n\n" + GOOD, "ZeroDivisionError", "self.x = 1 / 0"),
    "no hook": (HEAD, "implements no hook", "class Plugin"),
    "an unknown hook": (
        HEAD + GOOD + "    @hookimpl\n    def orderflow_tikc(self, tick): pass\n",
        "did you mean 'orderflow_tick'?",
        "@hookimpl",
    ),
    "a hook without the mark": (
        HEAD + GOOD + "    def orderflow_alert(self, alert): pass\n",
        "not marked with @hookimpl",
        "def orderflow_alert",
    ),
    "async def": (HEAD + GOOD.replace("def orderflow", "async def orderflow"), "`async def`", "@hookimpl"),
    "an async generator": (
        HEAD
        + GOOD.replace("def orderflow", "async def orderflow").replace("return [", "yield (").replace("]\n", ")\n"),
        "`async def`",
        "@hookimpl",
    ),
    "a wrong argument name": (HEAD + GOOD.replace("tick)", "tock)", 1), "expected orderflow_tick(self, tick)", "@hook"),
    "too many arguments": (HEAD + GOOD.replace("tick)", "tick, more)", 1), "wrong arguments", "@hookimpl"),
    "an argument with a default": (HEAD + GOOD.replace("tick)", "tick=None)", 1), "wrong arguments", "@hookimpl"),
    "star arguments": (HEAD + GOOD.replace("tick)", "*tick)", 1), "wrong arguments", "@hookimpl"),
    "a wrapper": (HEAD + GOOD.replace("@hookimpl", "@hookimpl(wrapper=True)"), "hook wrapper", "@hookimpl"),
    "an old wrapper": (HEAD + GOOD.replace("@hookimpl", "@hookimpl(hookwrapper=True)"), "hook wrapper", "@hookimpl"),
    "an order of its own": (HEAD + GOOD.replace("@hookimpl", "@hookimpl(tryfirst=True)"), "use it bare", "@hookimpl"),
    "a static hook": (HEAD + GOOD.replace("@hookimpl", "@staticmethod\n    @hookimpl"), "ordinary method", ""),
}


@pytest.mark.parametrize("text, says, line", REFUSED.values(), ids=REFUSED.keys())
def test_it_is_refused_with_file_and_line_and_the_rest_loads(folder: Path, text: str, says: str, line: str) -> None:
    path = write_plugin(folder, "bad", text="")
    path.write_text(text, errors="surrogateescape")
    write_plugin(folder, "good")
    setup = set_up(choose(("bad", "good"), folder), None)
    assert [alert.plugin for alert in setup.host.tick(make_tick())] == ["good"]
    problem = next(problem for problem in setup.problems if says in problem.text)
    assert {one.plugin for one in setup.problems} == {"bad"}
    assert (problem.kind, problem.path) == (ProblemKind.PLUGIN, str(path))
    assert problem.text.isprintable()
    if line:
        assert line in text.splitlines()[problem.line - 1]
    states = {plugin.name: plugin.state for plugin in setup.host.statistics().plugins}
    assert states == {"bad": PluginState.REFUSED, "good": PluginState.ACTIVE}
    assert MODULE_PREFIX + "bad" not in sys.modules or not text.startswith(("raise", "import no"))
    setup.check_settings()  # an author's mistake is no mistake in the settings


def test_everything_that_is_wrong_is_said_at_once(folder: Path) -> None:
    body = "@hookimpl\nasync def orderflow_tick(self, tick): pass\n@hookimpl\ndef orderflow_alerts(self, x): pass\n"
    write_plugin(folder, "bad", body)
    problems = set_up(choose(("bad",), folder), None).problems
    assert len(problems) == 2
    assert len({problem.line for problem in problems}) == 2


def test_ctrl_c_during_an_import_is_not_the_plugins(folder: Path) -> None:
    write_plugin(folder, "bad", text="raise KeyboardInterrupt\n")
    with pytest.raises(KeyboardInterrupt):
        set_up(choose(("bad",), folder), None)


def test_an_unknown_name_is_a_mistake_in_the_settings(folder: Path) -> None:
    write_plugin(folder, "spread")
    setup = set_up(choose(("spred", "spread"), folder), None)
    with pytest.raises(ConfigError) as caught:
        setup.check_settings()
    assert caught.value.problems == ("plugins.enabled: no plugin 'spred'; did you mean 'spread'?",)


@pytest.mark.parametrize("name", ["", "../x", "Spread", "a-b", "x\x1b[2J", "enabled", "a" * 41])
def test_a_name_that_cannot_be_a_plugins(name: str) -> None:
    (problem,) = set_up(choose((name,)), None).problems
    assert problem.kind is ProblemKind.SETTINGS
    assert str(problem).isprintable()


def test_a_table_for_a_plugin_that_does_not_exist(folder: Path) -> None:
    write_plugin(folder, "spread")
    (problem,) = set_up(choose((), folder, tables={"spraed": {}}), None).problems
    assert str(problem) == "plugins.spraed: no plugin of this name; did you mean 'spread'?"


def test_two_plugins_of_one_name_are_both_refused(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir(mode=0o755)
    for place, name in ((folder, "same"), (other, "same"), (folder, "good")):
        write_plugin(place, name)
    setup = set_up(choose(("same", "good"), folder, other), None)
    (problem,) = setup.problems
    assert str(folder / "same.py") in problem.text
    assert str(other / "same.py") in problem.text
    assert [alert.plugin for alert in setup.host.tick(make_tick())] == ["good"]


def test_a_name_enabled_twice_is_called_once(folder: Path) -> None:
    write_plugin(folder, "good")
    setup = set_up(choose(("good", "good"), folder), None)
    assert len(setup.host.tick(make_tick())) == 1


def test_only_what_is_enabled_is_run(folder: Path) -> None:
    marker = folder / "ran"
    write_plugin(folder, "idle", text=f"open({str(marker)!r}, 'w')\n")
    set_up(choose((), folder), None)
    assert not marker.exists()


def test_a_plugin_file_shadows_no_module_and_the_path_stays(folder: Path) -> None:
    before, path = sys.modules["json"], list(sys.path)
    write_plugin(folder, "json")
    setup = set_up(choose(("json",), folder), None)
    assert setup.problems == ()
    assert sys.modules["json"] is before
    assert sys.path == path
    assert not (folder / "__pycache__").exists()


def test_cached_bytecode_is_not_believed(folder: Path) -> None:
    cache = folder / "__pycache__"
    cache.mkdir()
    (cache / f"good.{sys.implementation.cache_tag}.pyc").write_bytes(b"nonsense")
    write_plugin(folder, "good")
    assert set_up(choose(("good",), folder), None).problems == ()


@pytest.mark.parametrize("mode", [0o666, 0o664, 0o646])
def test_a_file_others_may_write_to(folder: Path, mode: int) -> None:
    path = write_plugin(folder, "bad")
    write_plugin(folder, "good")
    path.chmod(mode)
    setup = set_up(choose(("bad", "good"), folder), None)
    (problem,) = setup.problems
    assert problem.text == f"{path} is writable by others; run: chmod go-w {path}"
    assert len(setup.host.tick(make_tick())) == 1


def test_dataclass_like_annotations_work_in_a_file(folder: Path) -> None:
    """Classes look their annotations up in sys.modules: the module must be there under its private name."""
    write_plugin(folder, "modern", text="from __future__ import annotations\n" + HEAD + GOOD)
    assert set_up(choose(("modern",), folder, tables={"modern": {"limit": 2.0}}), None).problems == ()


ENTRY_POINTS = """\
[orderflow.plugins]
whale = whale_pkg_module:Plugin
whale_module = whale_pkg_module
broken = whale_pkg_module:No
"""


def test_entry_points(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    info = tmp_path / "site" / "whale_pkg-1.2.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: whale-pkg\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text(ENTRY_POINTS)
    write_plugin(info.parent, "whale_pkg_module")
    monkeypatch.syspath_prepend(str(info.parent))
    choice = PluginSettings(enabled=("whale", "whale_module", "broken"))
    setup = set_up(choice, None)
    assert [problem.plugin for problem in setup.problems] == ["broken"]
    assert [alert.plugin for alert in setup.host.tick(make_tick())] == ["whale", "whale_module"]
    assert setup.host.statistics().plugins[0].version == "1.2"
    assert set_up(structs.replace(choice, entry_points=False), None).catalogue.sources == ()


def test_a_file_that_went_away() -> None:
    with pytest.raises(PluginProblems, match="FileNotFoundError"):
        load(Source(name="gone", origin=Origin.TEST, path="/no/such/gone.py"))


def problem_of(path: Path, origin: Origin = Origin.TEST) -> str:
    with pytest.raises(PluginProblems) as caught:
        load(Source(name=path.stem, origin=origin, path=str(path)))
    (problem,) = caught.value.problems
    assert (problem.plugin, problem.path) == (path.stem, str(path))
    return problem.text


FAILING = {
    "loading": ("1 / 0\n", "ZeroDivisionError: division by zero"),
    "checking": (
        "class Meta(type):\n    def __dir__(self): raise SystemExit\n"
        + HEAD.replace("class Plugin", "class Plugin(metaclass=Meta)")
        + GOOD,
        "SystemExit",
    ),
    "Config": (
        HEAD.replace("limit: Positive = 1.0", "def __post_init__(self): raise SystemExit") + GOOD,
        "SystemExit",
    ),
    "__init__": (HEAD + "        1 / 0\n\n" + GOOD, "ZeroDivisionError: division by zero"),
    "registering": (
        HEAD + "        self.orderflow_tikc = hookimpl(lambda tick: None)\n\n" + GOOD,
        "PluginValidationError: ",
    ),
}


@pytest.mark.parametrize("step", FAILING)
def test_the_step_that_failed_is_named(folder: Path, step: str) -> None:
    text, error = FAILING[step]
    assert problem_of(write_plugin(folder, "bad", text=text)).startswith(f"{step} failed: {error}")


def test_what_is_no_python_file(folder: Path) -> None:
    path = folder / "notes.txt"
    path.write_text("")
    assert problem_of(path) == f"loading failed: ImportError: {path} is no Python file"


def test_all_problems_are_in_the_text_of_the_error(folder: Path) -> None:
    body = "@hookimpl\nasync def orderflow_tick(self, tick): pass\n@hookimpl\ndef orderflow_alerts(self, x): pass\n"
    path = write_plugin(folder, "bad", body)
    with pytest.raises(PluginProblems) as caught:
        load(Source(name="bad", origin=Origin.TEST, path=str(path)))
    first, second = caught.value.problems
    assert f"{first.text}; {second.text}" in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_plugin_file_inherits_nothing_of_ours(folder: Path) -> None:
    """Such as `from __future__ import annotations`."""
    path = write_plugin(folder, "plain", text="x: int = 1\nassert __annotations__ == {'x': int}\n" + HEAD + GOOD)
    assert load(Source(name="plain", origin=Origin.TEST, path=str(path))).impls[0].hook == "orderflow_tick"


def test_a_file_in_a_folder_that_everybody_could_swap(folder: Path) -> None:
    path = write_plugin(folder, "bad")
    folder.chmod(0o757)
    assert problem_of(path, Origin.FOLDER) == f"{folder} is writable by everybody; run: chmod o-w {folder}"


def test_what_is_judged_is_what_is_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody exchanges the file between the look at its place and its opening."""
    path = write_plugin(folder, "bad")
    path.chmod(0o666)
    monkeypatch.setattr("orderflow.hooks.loading.access_fault", lambda _: "")
    assert problem_of(path, Origin.FOLDER) == f"{path} is writable by others; run: chmod go-w {path}"


@pytest.mark.parametrize(
    ("line", "version"),
    [
        ("version = '1.5'", "1.5"),
        ("version = 7", "of the distribution"),
        ("version = ''", "of the distribution"),
        ("pass", "of the distribution"),
        ("version = '1\\x1b'", r"1\x1b"),
        ("version = 'v' * 40", "v" * 40),
        ("version = 'v' * 41", "v" * 23 + "… [41 characters]"),
    ],
)
def test_the_version_is_the_plugins_or_its_distributions(folder: Path, line: str, version: str) -> None:
    path = write_plugin(folder, "whale", line + "\n" + tick_hook("pass"))
    source = Source(name="whale", origin=Origin.TEST, path=str(path), version="of the distribution")
    assert load(source).version == version


def test_each_step_of_loading_is_marked(folder: Path) -> None:
    path = write_plugin(folder, "whale")
    marks: list[tuple[str, str]] = []
    load(Source(name="whale", origin=Origin.TEST, path=str(path)), mark=lambda *mark: marks.append(mark))
    assert marks == [("whale", "import"), ("whale", "Config"), ("whale", "__init__")]


def test_wrong_settings_are_said_and_the_plugin_is_not_constructed(folder: Path) -> None:
    marker = folder / "ran"
    path = write_plugin(folder, "whale", text=HEAD + f"        open({str(marker)!r}, 'w')\n\n" + GOOD)
    setup = set_up(choose(("whale",), folder, tables={"whale": {"limit": -1, "lmit": 2}}), None)
    assert sorted(map(str, setup.problems)) == [
        "plugins.whale.limit: got -1, expected float > 0.0",
        "plugins.whale.lmit: unknown setting; did you mean 'limit'?",
    ]
    assert not marker.exists()
    assert setup.host.statistics().plugins[0].where == str(path)


def test_what_is_said_of_two_plugins_of_one_name(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir(mode=0o755)
    paths = [write_plugin(place, "same") for place in (folder, other)]
    setup = set_up(choose(("same",), folder, other), None)
    (problem,) = setup.problems
    assert problem.text == f"there are 2 plugins of this name, none is used: {paths[0]}, {paths[1]}"
    assert setup.host.statistics().plugins[0].where == str(paths[0])


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("Spread", "'Spread' is no plugin name; expected 1-40 of a-z, 0-9 and _, beginning with a letter"),
        ("enabled", "'enabled' is a setting of [plugins] and cannot be a plugin's name"),
        ("conftest", "'conftest' is a name of test files and cannot be a plugin's"),
        ("whale", "no plugin 'whale'"),
    ],
)
def test_why_there_is_no_such_plugin(name: str, says: str) -> None:
    (problem,) = set_up(choose((name,)), None).problems
    assert str(problem) == f"plugins.enabled: {says}"


def test_an_isolated_plugin_that_does_not_exist(folder: Path) -> None:
    write_plugin(folder, "whale")
    (problem,) = set_up(choose((), folder, isolated=("wale",)), None).problems
    assert str(problem) == "plugins.isolated: no plugin 'wale'; did you mean 'whale'?"


@pytest.mark.parametrize(
    "problem, text",
    [
        (Problem(plugin="p", text="t"), "plugin p: t"),
        (Problem(plugin="p", text="t", path="/x.py"), "/x.py: plugin p: t"),
        (Problem(plugin="p", text="t", path="/x.py", line=3), "/x.py:3: plugin p: t"),
        (Problem(plugin="p", text="t", key="plugins.p.a"), "plugins.p.a: t"),
        (Problem(plugin="p", text="t", path="/\x1b.py"), r"/\x1b.py: plugin p: t"),
    ],
)
def test_problems_as_text(problem: Problem, text: str) -> None:
    assert str(problem) == text


def test_a_plugin_whose_equality_lies_costs_no_other_its_place(folder: Path) -> None:
    body = "def __eq__(self, other): raise SystemExit\n__hash__ = None\n" + tick_hook("raise ValueError")
    write_plugin(folder, "liar", body)
    write_plugin(folder, "good")
    setup = set_up(choose(("liar", "good"), folder, max_failures=1), None)
    assert [alert.plugin for alert in setup.host.tick(make_tick())] == ["good"]
