"""Zero configuration: what is on this machine, or what is missing from it."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from journals import Journal, entry
from pop_before_smtp import ConfigError, _discover
from pop_before_smtp._config import build
from pop_before_smtp._discover import Found, fill
from pop_before_smtp._sources import journal as module

PLUGIN = """
from pathlib import Path
from attrs import frozen
from pop_before_smtp import LogParser, Map, Writer, hookimpl

@frozen(kw_only=True)
class Settings:
    map: str

@hookimpl
def pop_before_smtp_parsers():
    yield LogParser(name="{name}", patterns=[], detect=["{mark}"], units={units})

@hookimpl
def pop_before_smtp_writers():
    keys = {keys}
    yield Writer(name="{name}", settings=Settings, open=lambda settings: None, defaults=lambda folder: keys)
"""

Add = Callable[..., None]


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, install: Callable[..., str]) -> Add:
    """Return ``add(name, here, keys, units)``; only plugins added so are installed, and there is no journal."""
    names: list[str] = []
    real = _discover.installed
    monkeypatch.setattr(_discover, "installed", lambda: {name: real()[name] for name in names})
    monkeypatch.setattr(_discover, "LOGS", (str(tmp_path / "mail.log"), str(tmp_path / "maillog")))
    monkeypatch.setattr(module, "COMMAND", ["nosuch-journalctl"])

    def add(name: str, *, here: bool, keys: object = None, units: tuple[str, ...] = ("popd.service",)) -> None:
        names.append(name)
        mark = tmp_path / name
        if here:
            mark.touch()
        install(name, PLUGIN.format(name=name, mark=mark, keys=repr(keys), units=repr(units)))

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
    found = fill({"grace": "5m"})
    assert found.data == {
        "plugins": ["popd", "mtad"],
        "grace": "5m",
        "source": [{"path": str(tmp_path / "maillog")}],
        "writer": [{"use": "mtad", "map": "lmdb:/x"}],
    }
    assert found.why[0].startswith(f"source: {tmp_path}/maillog, written to 0:00:0")
    assert found.why[1] == "source: not the journal: journalctl is not installed; name a log file instead"
    config = build(found.data, loaded=found.registry)
    assert config.grace == 300
    loaded = {id(plugin) for plugin in found.registry.plugins}
    assert loaded >= {id(plugin) for plugin in config.registry.plugins}, "each is loaded once"


def test_what_the_operator_says_stays(machine: Add, tmp_path: Path) -> None:
    machine("popd", here=True, keys={"map": "lmdb:/x"})
    (tmp_path / "mail.log").touch()
    writer = [{"use": "popd", "map": "cdb:/mine"}]
    assert fill({"plugins": ["popd"], "writer": writer}).data == {
        "plugins": ["popd"],
        "source": [{"path": str(tmp_path / "mail.log")}],
        "writer": writer,
    }


def test_a_named_log_is_read_by_every_parser_where_no_server_is_found(machine: Add) -> None:
    machine("popd", here=False)
    machine("imapd", here=False, keys={"map": "x"})
    assert fill({"source": [{"path": "/log"}]}).data["plugins"] == ["popd", "imapd"]


def test_an_empty_machine_is_told_everything(machine: Add) -> None:
    machine("popd", here=False)
    assert problems({}) == ["writer", "plugins", "source"]


def test_a_complete_configuration_is_not_touched(machine: Add) -> None:
    machine("popd", here=False)
    data: dict[str, Any] = {"plugins": ["x"], "source": [], "writer": []}
    assert fill(data) == Found(data=data)


def test_a_broken_plugin_stops_it(machine: Add, install: Callable[..., str]) -> None:
    machine("popd", here=True)
    install("broken", "1 / 0")
    assert problems({"plugins": ["broken"]}) == ["plugins[0]"]


HOUR = 3600.0


@pytest.mark.parametrize(
    ("own", "others", "log", "chosen"),
    [
        (60, None, 1, "journal"),
        (60, None, None, "journal"),
        (2 * HOUR, 1, 60, "file"),
        (2 * HOUR, 1, 3 * HOUR, "journal"),
        (2 * HOUR, 1, None, "journal"),
        (None, 1, 60, "file"),
        (None, 1, 2 * HOUR, "journal"),
        (None, 9 * HOUR, 8 * HOUR, "file"),
        (None, 1, None, "journal"),
        (None, None, 2 * HOUR, "file"),
    ],
)
def test_the_journal_is_preferred_where_it_is_fresh(
    machine: Add,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    own: float | None,
    others: float | None,
    log: float | None,
    chosen: str,
) -> None:
    """Ages in seconds: of the server's newest record, of everybody else's, of the log file."""
    now = time.time()
    machine("popd", here=True, keys={"map": "lmdb:/x"})
    journal = Journal(tmp_path)
    for age, unit in sorted([(age or 0, unit) for age, unit in ((own, "popd"), (others, "x")) if age], reverse=True):
        journal.write(entry("hello", at=now - age, _SYSTEMD_UNIT=f"{unit}.service"))
    monkeypatch.setattr(module, "COMMAND", journal.command)
    if log:
        file = tmp_path / "mail.log"
        file.touch()
        os.utime(file, (now - log, now - log))
    found = fill({})
    assert found.data["source"] == [{"journal": True} if chosen == "journal" else {"path": str(tmp_path / "mail.log")}]
    assert ("source: the journal: " in found.why[0]) is (chosen == "journal")
    if own == 60 and log:
        assert found.why[0] in {f"source: the journal: its newest record of popd is 0:01:0{n} old" for n in range(9)}
        assert "mail.log, written to 0:00:0" in found.why[1]


def test_a_slow_journal_is_better_than_nothing(machine: Add, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine("popd", here=True, keys={"map": "lmdb:/x"})
    monkeypatch.setattr(module, "COMMAND", ["sh", "-c", "exec sleep 9"])
    monkeypatch.setattr(module, "_PATIENCE", 0.1)
    assert fill({}).data["source"] == [{"journal": True}]
    (tmp_path / "mail.log").touch()
    assert fill({}).data["source"] == [{"path": str(tmp_path / "mail.log")}]


def test_a_server_whose_units_nobody_names_is_not_looked_for_in_the_journal(
    machine: Add, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine("popd", here=True, keys={"map": "lmdb:/x"}, units=())
    journal = Journal(tmp_path)
    journal.say("hello")
    monkeypatch.setattr(module, "COMMAND", journal.command)
    assert problems({}) == ["source"]
    (tmp_path / "mail.log").touch()
    found = fill({})
    assert found.data["source"] == [{"path": str(tmp_path / "mail.log")}]
    assert found.why[1] == 'source: not the journal: the parser "popd" names no systemd units'
