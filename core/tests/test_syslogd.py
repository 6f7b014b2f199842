"""Who writes a log file, told by configurations as distributions ship them and as people change them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from pop_before_smtp import _sources
from pop_before_smtp._config import Config, SourceSettings
from pop_before_smtp._plugins import Plugin, Registry
from pop_before_smtp._syslogd import doubt
from pop_before_smtp.api import LogHeader, LogParser

LOG = Path("/var/log/mail.log")

RSYSLOG = """
module(load="imuxsock") # provides support for local system logging
$FileOwner root
#$EscapeControlCharactersOnReceive off
$IncludeConfig /etc/rsyslog.d/*.conf
mail.*				-/var/log/mail.log
"""
SYSLOG_NG = """
@version: 3.38
@include "scl.conf"
options {{ chain_hostnames(off); bad_hostname("^gconfd$"); }};
# source s_old {{ system(); }};
source s_src {{
       {source};
       internal();  # itself
}};
destination d_mail {{ file("/var/log/mail.log"); }};
filter f_mail {{ facility(mail) and not filter(f_dbg); }};
log {{ source(s_src); filter(f_mail); destination(d_mail); }};
@include "/etc/syslog-ng/conf.d/*.conf"
"""
FLAGGED = 'unix-dgram("/dev/log" flags(no-multi-line))'


class Machine:
    def __init__(self, root: Path) -> None:
        self.root = root

    def write(self, path: str, text: str = "") -> Path:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    def rsyslog(self, text: str = RSYSLOG) -> None:
        self.write("usr/sbin/rsyslogd")
        self.write("etc/rsyslog.conf", text)

    def syslog_ng(self, source: str) -> None:
        self.write("usr/sbin/syslog-ng")
        self.write("etc/syslog-ng/scl.conf", "block source x() { channel { source { tcp(); }; }; };")
        self.write("etc/syslog-ng/syslog-ng.conf", SYSLOG_NG.format(source=source))

    def doubt(self, path: Path = LOG) -> str | None:
        return doubt(path, self.root)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_nothing_is_doubted_without_a_daemon_that_splits_lines(machine: Machine) -> None:
    assert machine.doubt() is None
    machine.write("etc/syslog-ng/syslog-ng.conf", SYSLOG_NG.format(source="system()"))  # removed, not purged
    assert machine.doubt() is None
    machine.rsyslog()
    assert machine.doubt() is None


@pytest.mark.parametrize(
    "line",
    [
        "$EscapeControlCharactersOnReceive off",
        "$escapecontrolcharactersonreceive  Off",
        'global(parser.escapeControlCharactersOnReceive="off")',
        'global(workDirectory="/x" escapeControlCharactersOnReceive = "off")',
        'input(type="imfile" file="/x" readMode="2" escapeLF="off")',
    ],
)
@pytest.mark.parametrize("file", ["etc/rsyslog.conf", "etc/rsyslog.d/50-mine.conf"])
def test_rsyslog_that_does_not_escape(machine: Machine, line: str, file: str) -> None:
    machine.rsyslog()
    with machine.write("etc/rsyslog.d/empty.conf").with_name("20-more.conf").open("w") as more:
        more.write('include(file="/etc/rsyslog.conf" mode="optional")')  # one that never ends
    with (machine.root / file).open("a") as config:
        config.write(line + "\n")
    text = machine.doubt()
    assert text
    assert text.startswith("/var/log/mail.log is written by rsyslog, which lets clients begin lines of their own, so ")
    assert text.endswith(" from its configuration, or escaped = true if you know better")


def test_rsyslog_that_is_told_to_escape(machine: Machine) -> None:
    machine.rsyslog(RSYSLOG + "$EscapeControlCharactersOnReceive on\n")
    assert machine.doubt() is None


@pytest.mark.parametrize(
    "source",
    [
        FLAGGED,
        'unix_dgram("/dev/log" owner("root") flags("no_multi_line", assume-utf8))',
        f'{FLAGGED}; network(transport("udp") port(514) flags(no-multi-line))',
        f'{FLAGGED}; syslog(port(514) transport(udp) flags(no-multi-line)); file("/proc/kmsg" flags(kernel))',
        f"channel {{ source {{ {FLAGGED}; }}; }}",
    ],
)
def test_syslog_ng_that_lets_no_newline_through(machine: Machine, source: str) -> None:
    machine.syslog_ng(source)
    assert machine.doubt() is None


@pytest.mark.parametrize(
    "source",
    ['unix-dgram("/dev/log")', 'unix-dgram("/dev/log" flags(assume-utf8))', f'{FLAGGED}; network(transport("udp"))'],
)
def test_syslog_ng_without_the_flag(machine: Machine, source: str) -> None:
    machine.syslog_ng(source)
    assert machine.doubt() == (
        "/var/log/mail.log is written by syslog-ng, which lets clients begin lines of their own, so nothing is granted "
        "from it; set flags(no-multi-line) in its sources, or escaped = true if you know better"
    )


@pytest.mark.parametrize(
    ("source", "driver"),
    [
        ("system()", "system"),
        ("system(flags(no-multi-line))", "system"),
        ("systemd-journal()", "systemd-journal"),
        ('unix-stream("/dev/log" flags(no-multi-line))', "unix-stream"),
        (f"{FLAGGED}; network(flags(no-multi-line))", "network"),
        (f'{FLAGGED}; file("/var/log/other" flags(no-multi-line))', "file"),
        (f"channel {{ source {{ {FLAGGED}; tcp(port(514)); }}; }}", "tcp"),
    ],
)
def test_syslog_ng_whose_source_heeds_no_flag(machine: Machine, source: str, driver: str) -> None:
    machine.syslog_ng(source)
    assert f"its source {driver}() lets them whatever its flags are" in (machine.doubt() or "")


def test_every_part_of_a_configuration_counts(machine: Machine) -> None:
    machine.syslog_ng(FLAGGED)
    more = machine.write("etc/syslog-ng/conf.d/more.conf", "log { source { system(); }; destination(d_mail); };")
    assert machine.doubt()
    more.write_text("# log { source { system(); }; };")
    assert machine.doubt() is None


def test_the_daemon_that_names_the_file_decides(machine: Machine) -> None:
    machine.rsyslog()
    machine.syslog_ng("system()")
    assert "written by syslog-ng" in (machine.doubt() or "")
    assert "may be written by syslog-ng" in (machine.doubt(Path("/var/log/pop.log")) or "")
    machine.write("etc/rsyslog.d/pop.conf", "local1.* /var/log/pop.log;RSYSLOG_TraditionalFileFormat")
    assert machine.doubt(Path("/var/log/pop.log")) is None
    assert machine.doubt(Path("/var/log/pop.log.1"))


def test_a_link_to_the_file_is_the_file(machine: Machine) -> None:
    target = machine.write("var/log/pop.log")
    link = machine.root / "link.log"
    link.symlink_to(target)
    machine.syslog_ng("system()")
    machine.rsyslog(f"mail.* {target}\n")
    assert machine.doubt(link) is None


def test_a_configuration_that_cannot_be_read_is_doubted(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.rsyslog()
    machine.write("etc/rsyslog.d/secret.conf")
    monkeypatch.setattr(os, "access", lambda path, *_, **__: "rsyslog.d" not in str(path))
    text = machine.doubt() or ""
    assert text == (
        "/var/log/mail.log may be written by rsyslog, which this user cannot ask, so nothing is granted from it; "
        f"let it read {machine.root}/etc/rsyslog.d, or escaped = true if you know better"
    )


def test_a_configuration_that_is_elsewhere_is_doubted(machine: Machine) -> None:
    machine.write("usr/sbin/syslog-ng")
    assert f"let it read {machine.root}/etc/syslog-ng/syslog-ng.conf" in (machine.doubt() or "")


def test_many_files_that_include_each_other_are_read_once(machine: Machine) -> None:
    machine.rsyslog()
    for number in range(30):
        machine.write(f"etc/rsyslog.d/{number}.conf", "$IncludeConfig /etc/rsyslog.d/*.conf\n")
    assert machine.doubt() is None


def test_a_configuration_file_that_may_not_be_read(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.rsyslog()
    main = machine.root / "etc/rsyslog.conf"

    def refuse(*_: object, **__: object) -> str:
        raise PermissionError(13, "Permission denied", str(main))

    monkeypatch.setattr(Path, "read_text", refuse)
    assert f"let it read {main}" in (machine.doubt() or "")


@pytest.mark.parametrize("text", ["", "source", "source s {", 'source s { "', "}}}} ))) source { x( }"])
def test_a_configuration_that_makes_no_sense_is_doubted(machine: Machine, text: str) -> None:
    machine.syslog_ng("system()")
    machine.write("etc/syslog-ng/syslog-ng.conf", text)
    assert machine.doubt()


OWN = LogParser(name="popd", patterns=[], headers=[LogHeader(name="popd", line=rb"popd (?P<message>.*)")])


@pytest.mark.parametrize(
    ("text", "settings", "believed"),
    [
        ("", {}, False),
        ("Nov 22 09:05:40 mx popd: x\n", {}, False),
        ("Nov 22 09:05:40 mx popd: x\n", {"escaped": True}, True),
        ("Nov 22 09:05:40 mx popd: x\n", {"escaped": False}, None),
        ("popd x\n", {}, True),
        ("", {"format": "popd"}, True),
        ("", {"format": "syslog"}, False),
    ],
)
@pytest.mark.parametrize("name", ["mail.log", "m*.log"])
def test_who_is_warned(  # noqa: PLR0917 - a row of the table and three fixtures
    text: str,
    settings: dict[str, Any],
    believed: bool | None,
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_sources, "doubt", lambda path: f"{path} is doubted")
    plugin = Plugin(name="popd", distribution="popd", version="1", parsers=(OWN,))
    config = Config(registry=Registry(plugins=(plugin,)))
    source = SourceSettings(path=tmp_path / name, **settings)
    log = tmp_path / "mail.log"
    log.write_text(text)
    expected = f"{log} is doubted" if believed is False else None
    assert _sources.suspicion(config, source) == expected
    parts = _sources.layout(config, source)
    parts.sniff(text.encode())
    refused = "unescaped_source" if not believed else ""
    assert parts.trust.refusal("popd", b"mx", {}) == refused


@pytest.mark.parametrize("source", [{"command": ("cat",)}, {"path": Path("-")}, {"listen": Path("/x")}])
def test_of_other_sources_nobody_can_tell(source: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_sources, "doubt", lambda path: f"{path} is doubted")
    settings = SourceSettings(**source)
    assert _sources.suspicion(Config(), settings) is None
    assert not _sources.layout(Config(), settings).trust.strict
