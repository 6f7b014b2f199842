"""Zero configuration: what is on this machine, or what is missing from it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pop_before_smtp import ConfigError, _discover
from pop_before_smtp._config import build
from pop_before_smtp._discover import fill

PLUGIN = """
from pathlib import Path
from attrs import frozen
from pop_before_smtp import LogParser, Map, Writer, hookimpl

@frozen(kw_only=True)
class Settings:
    map: str

@hookimpl
def pop_before_smtp_parsers():
    yield LogParser(name="{name}", patterns=[], detect=["{mark}"])

@hookimpl
def pop_before_smtp_writers():
    keys = {keys}
    yield Writer(name="{name}", settings=Settings, open=lambda settings: None, defaults=lambda folder: keys)
"""

Add = Callable[..., None]


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, install: Callable[..., str]) -> Add:
    """Return ``add(name, here, keys)``; only plugins added so are installed."""
    names: list[str] = []
    real = _discover.installed
    monkeypatch.setattr(_discover, "installed", lambda: {name: real()[name] for name in names})
    monkeypatch.setattr(_discover, "LOGS", (str(tmp_path / "mail.log"), str(tmp_path / "maillog")))

    def add(name: str, *, here: bool, keys: object = None) -> None:
        names.append(name)
        mark = tmp_path / name
        if here:
            mark.touch()
        install(name, PLUGIN.format(name=name, mark=mark, keys=repr(keys)))

    return add


def problems(data: dict[str, Any]) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        fill(data)
    return [line.split(":")[0] for line in caught.value.problems]


def test_everything_is_found(machine: Add, tmp_path: Path) -> None:
    machine("absentd", here=False)
    machine("popd", here=True)
    machine("mtad", here=False, keys={"map": "lmdb:/x"})
    (tmp_path / "maillog").touch()
    data = fill({"grace": "5m"})
    assert data == {
        "plugins": ["popd", "mtad"],
        "grace": "5m",
        "source": [{"path": str(tmp_path / "maillog")}],
        "writer": [{"use": "mtad", "map": "lmdb:/x"}],
    }
    assert build(data).grace == 300


def test_what_the_operator_says_stays(machine: Add, tmp_path: Path) -> None:
    machine("popd", here=True, keys={"map": "lmdb:/x"})
    (tmp_path / "mail.log").touch()
    writer = [{"use": "popd", "map": "cdb:/mine"}]
    assert fill({"plugins": ["popd"], "writer": writer}) == {
        "plugins": ["popd"],
        "source": [{"path": str(tmp_path / "mail.log")}],
        "writer": writer,
    }


def test_a_named_log_is_read_by_every_parser_where_no_server_is_found(machine: Add) -> None:
    machine("popd", here=False)
    machine("imapd", here=False, keys={"map": "x"})
    assert fill({"source": [{"path": "/log"}]})["plugins"] == ["popd", "imapd"]


def test_an_empty_machine_is_told_everything(machine: Add) -> None:
    machine("popd", here=False)
    assert problems({}) == ["source", "writer", "plugins"]


def test_a_complete_configuration_is_not_touched(machine: Add) -> None:
    machine("popd", here=False)
    data: dict[str, Any] = {"plugins": ["x"], "source": [], "writer": []}
    assert fill(data) is data


def test_a_broken_plugin_stops_it(machine: Add, install: Callable[..., str]) -> None:
    machine("popd", here=True)
    install("broken", "1 / 0")
    assert problems({"plugins": ["broken"]}) == ["plugins[0]"]
