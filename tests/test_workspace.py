"""The workspace's own rules: which way imports go, one name and one version everywhere, nothing too long."""

from __future__ import annotations

import ast
import importlib.metadata
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pop_before_smtp
import pytest
import tomli
from daemon import PROGRAM
from lab import Lab
from pop_before_smtp.api import GROUP

ROOT = Path(__file__).parents[1]
CORE = ROOT / "core"
PLUGINS = sorted(path.parent for path in ROOT.glob("plugins/*/pyproject.toml"))
DISTRIBUTIONS = [CORE, *PLUGINS]
EXAMPLES = sorted(ROOT.glob("examples/*.toml"))
OURS = [path for folder in ("core", "plugins", "tests", "bench") for path in sorted((ROOT / folder).rglob("*.py"))]
JOURNAL = r"""
[ -s /etc/machine-id ] || echo 0123456789abcdef0123456789abcdef > /etc/machine-id
folder=/var/log/journal/$(cat /etc/machine-id)
mkdir -p $folder
printf '__REALTIME_TIMESTAMP=1795338189000000\n__MONOTONIC_TIMESTAMP=1\n_BOOT_ID=%032d\nMESSAGE=x\n\n' 1 |
    /lib/systemd/systemd-journal-remote -o $folder/system.journal - 2>/dev/null
"""
"""Makes a journal with one record."""
ENGINE_NEVER = {"asyncio", "pop_before_smtp._state", "pop_before_smtp._sources", "pop_before_smtp._serve"}


def project(distribution: Path) -> dict[str, Any]:
    table: dict[str, Any] = tomli.loads((distribution / "pyproject.toml").read_text())["project"]
    return table


def name(path: Path) -> str:
    return path.name


def imported(path: Path, module: str = "") -> Iterator[str]:
    """Yield the full names of what a file imports: modules, and the names taken from them."""
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parent = package.split(".")[: 1 - node.level or None] if node.level else []
            base = ".".join([*parent, *([node.module] if node.module else [])])
            yield from (f"{base}.{alias.name}" for alias in node.names)


def modules(source: Path) -> dict[str, Path]:
    paths = {path: path.relative_to(source).with_suffix("").parts for path in source.rglob("*.py")}
    return {".".join(parts[:-1] if parts[-1] == "__init__" else parts): path for path, parts in paths.items()}


def test_core_imports_no_plugin() -> None:
    found = {thing for module, path in modules(CORE / "src").items() for thing in imported(path, module)}
    assert "attrs.frozen" in found
    assert [thing for thing in found if thing.startswith("pop_before_smtp_")] == []


@pytest.mark.parametrize("plugin", PLUGINS, ids=name)
def test_plugins_import_public_modules_only(plugin: Path) -> None:
    found = {thing for module, path in modules(plugin / "src").items() for thing in imported(path, module)}
    of_core = [thing.split(".") for thing in found if thing.split(".")[0] == "pop_before_smtp"]
    assert of_core
    assert [names for names in of_core if any(part.startswith("_") for part in names)] == []
    others = {f"pop_before_smtp_{other.name}" for other in PLUGINS if other != plugin}
    assert others.isdisjoint(thing.split(".")[0] for thing in found)


def test_engine_does_no_io() -> None:
    """Not even through what it imports."""
    core = modules(CORE / "src")
    seen: set[str] = set()
    todo = ["pop_before_smtp._engine"]
    while todo:
        module = todo.pop()
        seen.add(module)
        things = set(imported(core[module], module)) if module in core else set()
        nearest = {thing if thing in core else thing.rpartition(".")[0] for thing in things}
        todo += [thing for thing in nearest - seen if thing != "pop_before_smtp"]
    assert "pop_before_smtp._engine" in core
    assert {
        thing for thing in seen if any(thing == never or thing.startswith(f"{never}.") for never in ENGINE_NEVER)
    } == set()


@pytest.mark.parametrize("plugin", PLUGINS, ids=name)
def test_one_name_in_five_places(plugin: Path) -> None:
    package = f"pop_before_smtp_{plugin.name}"
    assert (plugin / "src" / package / "__init__.py").is_file()
    assert project(plugin)["name"] == f"pop-before-smtp-{plugin.name.replace('_', '-')}"
    assert project(plugin)["entry-points"] == {GROUP: {plugin.name: package}}
    (installed,) = importlib.metadata.entry_points(group=GROUP, name=plugin.name)
    assert installed.value == package


@pytest.mark.parametrize("plugin", PLUGINS, ids=name)
def test_one_version_everywhere(plugin: Path) -> None:
    version = pop_before_smtp.__version__
    assert project(plugin)["version"] == version
    major, minor, _ = version.split(".")
    assert f"pop-before-smtp~={major}.{minor}" in project(plugin)["dependencies"]
    assert f"## {version}" in (ROOT / "CHANGELOG.md").read_text()


@pytest.mark.parametrize("distribution", DISTRIBUTIONS, ids=name)
def test_each_dependency_has_its_reason(distribution: Path) -> None:
    table = project(distribution)
    extras = [line for lines in table.get("optional-dependencies", {}).values() for line in lines]
    dependencies = {re.split(r"[\[<>=~!]", line)[0] for line in [*table["dependencies"], *extras]}
    readme = (distribution / "README.md").read_text()
    missing = [word for word in sorted(dependencies - {"pop-before-smtp"}) if not re.search(rf"\b{word}\b", readme)]
    assert missing == [], "README.md says in one line what each dependency is for"


def test_no_file_is_too_long() -> None:
    lengths = {
        path: len(path.read_text().splitlines()) for path in [*OURS, *ROOT.glob("packaging/*"), ROOT / "Makefile"]
    }
    assert {str(path.relative_to(ROOT)): lines for path, lines in lengths.items() if lines > 400} == {}


@pytest.mark.system
@pytest.mark.parametrize("example", EXAMPLES, ids=name)
def test_examples_pass_check_beside_postfix(dovecot_lab: Lab, example: Path) -> None:
    for file in re.findall(r'^(?:path|rules) = "(/.*)"', example.read_text(), re.MULTILINE):
        dovecot_lab.sh(f"touch {file}")
    for program in re.findall(r'^command = \["(\w+)"', example.read_text(), re.MULTILINE):
        dovecot_lab.sh(f"command -v {program} || ln -s true /usr/bin/{program}")
    for folder in re.findall(
        r'^(?:listen = "|map = "(?:\w+:unix|smtpaccess):)(/.*)/', example.read_text(), re.MULTILINE
    ):
        dovecot_lab.sh(f"mkdir -p {folder}")
    if "\njournal = true" in example.read_text():
        dovecot_lab.sh(JOURNAL)
    done = dovecot_lab.run(PROGRAM, "check", "-c", example, check=False)
    assert done.returncode == 0, done.stderr
    expected = ("has its own smtpd_relay_restrictions", "is not installed")  # other mail servers than Postfix
    assert [line for line in done.stderr.splitlines() if not any(text in line for text in expected)] == []
    assert "[[writer]]" in done.stdout
