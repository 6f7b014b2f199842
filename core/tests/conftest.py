"""Plugins made for one test: a distribution with metadata, an entry point and a module, on the path."""

from __future__ import annotations

import importlib
import itertools
import logging
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playground import Site

Install = Callable[..., str]
_number = itertools.count()

PARSER = """
from pop_before_smtp import LOGIN, LogParser, LogPattern, hookimpl

@hookimpl
def pop_before_smtp_parsers():
    yield LogParser(name="{name}", patterns=[LogPattern(
        kind=LOGIN, program=rb"popd", message=rb"login (?P<user>\\w+) from (?P<ip>[0-9A-Fa-f.:]+)",
        contains=[b"popd: login "], fixed={{"service": "pop3"}})])
"""

WRITER = """
from pathlib import Path
from attrs import frozen
from pop_before_smtp import ConfigError, Map, MapError, Writer, hookimpl

@frozen(kw_only=True)
class Settings:
    map: str
    depth: int = 1

class TextMap(Map):
    rewrites = False
    def __init__(self, path):
        self.path = path
    def write(self, changes):
        fresh = self.path.with_suffix(".new")
        fresh.write_text("".join(key + "\\n" for key in sorted(changes.current)))
        fresh.replace(self.path)
    def clear(self):
        self.path.write_text("")

def open_map(settings):
    if settings.depth < 1:
        raise ConfigError("depth: must be 1 or more")
    return TextMap(Path(settings.map))

@hookimpl
def pop_before_smtp_writers():
    yield Writer(name="{name}", settings=Settings, open=open_map)
"""


@pytest.fixture(autouse=True)
def quiet_log() -> Iterator[None]:
    """Undo what a command has set up for its log."""
    log = logging.getLogger("pop_before_smtp")
    handlers, level = log.handlers, log.level
    yield
    log.handlers = handlers
    log.setLevel(level)


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Return ``install(name, code, requires=..., distribution=...)``, which puts a plugin on the path."""
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(str(site))

    def add(name: str, code: str, *, requires: str = "pop-before-smtp~=2.0", distribution: str | None = None) -> str:
        module = f"plugin_for_test_{next(_number)}"
        (site / f"{module}.py").write_text(textwrap.dedent(code))
        dist = distribution or f"example-{name}"
        info = site / f"{dist.replace('-', '_')}-1.2.dist-info"
        info.mkdir()
        metadata = f"Metadata-Version: 2.1\nName: {dist}\nVersion: 1.2\nRequires-Dist: {requires}\n"
        (info / "METADATA").write_text(metadata)
        (info / "entry_points.txt").write_text(f"[pop_before_smtp]\n{name} = {module}\n")
        importlib.invalidate_caches()
        return module

    return add


@pytest.fixture
def parser_plugin(install: Install) -> str:
    """Install a plugin with the parser ``popd`` for lines like ``popd: login ann from 203.0.113.7``."""
    install("popd", PARSER.format(name="popd"))
    return "popd"


@pytest.fixture
def writer_plugin(install: Install) -> str:
    """Install a plugin with the writer ``textfile``: one key a line."""
    install("textfile", WRITER.format(name="textfile"))
    return "textfile"


@pytest.fixture
def site(tmp_path: Path, parser_plugin: str, writer_plugin: str, capfd: pytest.CaptureFixture[str]) -> Site:
    """Give a playground for the command with the two plugins above."""
    assert (parser_plugin, writer_plugin) == ("popd", "textfile")
    return Site(tmp_path, capfd)
