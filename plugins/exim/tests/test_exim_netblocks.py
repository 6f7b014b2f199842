"""Host lists, form by form, as exim 4.96 was seen to read them; tests/test_exim.py asks a real one."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pop_before_smtp_exim import Settings, pop_before_smtp_writers

(WRITER,) = pop_before_smtp_writers()
OURS = "/srv/hosts"
ALL = ["0.0.0.0/0", "::/0"]
Read = Callable[..., tuple[list[str], list[str]]]


@pytest.fixture
def read(fake_exim: Any) -> Read:
    """Return ``read(list, other lines)`` -> (entries, exclusions with a ``!``; warnings)."""

    def run(text: str, *lines: str, **settings: str) -> tuple[list[str], list[str]]:
        config = [f"# {OURS}", "primary_hostname = mx", *lines, f"hostlist relay_from_hosts = {text}", "begin acl"]
        fake_exim.configure("\n".join(config) + "\n")
        assert WRITER.netblocks
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            found = list(WRITER.netblocks(Settings(map=f"hosts:{OURS}", **settings)))
        entries = [("" if permitted else "!") + str(network) for network, permitted in found]
        return entries, [str(warning.message) for warning in caught]

    return run


@pytest.mark.parametrize(
    ("text", "entries"),
    [
        pytest.param("", [], id="empty"),
        pytest.param(f"{OURS} : 127.0.0.1 : ::::1", ["127.0.0.1/32", "::1/128"], id="Debian"),
        pytest.param("/srv/other : !/srv//other : 127.0.0.1", ["127.0.0.1/32"], id="maps of other writers"),
        pytest.param("<; ::1 ; 2001:DB8::/32;10.0.0.0/8 ;", ["::1/128", "2001:db8::/32", "10.0.0.0/8"], id="separator"),
        pytest.param("<,,10.0.0.0/8", ["10.0.0.0/8"], id="empty items"),
        pytest.param("10.0.0.5/8 : 10.0.0.1/33", ["10.0.0.0/8", "10.0.0.1/32"], id="prefixes"),
        pytest.param("10.0.0.1/", ["0.0.0.0/0"], id="a slash alone"),
        pytest.param("!10.0.0.1 : ! 10.0.0.2 : 10.0.0.0/8", ["!10.0.0.1/32", "!10.0.0.2/32", "10.0.0.0/8"], id="not"),
        pytest.param("10.0.0.0/8 : !192.0.2.1", ["10.0.0.0/8", "!192.0.2.1/32", *ALL], id="not at the end"),
        pytest.param("10.0.0.0/8 : !192.0.2.1 :", ["10.0.0.0/8", "!192.0.2.1/32", *ALL], id="nothing behind it"),
        pytest.param("@[] : +ignore_unknown : 10.0.0.1", ["10.0.0.1/32"], id="own addresses, flags"),
        pytest.param("10.0.0.0/8 : !@[]", ["10.0.0.0/8", *ALL], id="all but own addresses"),
        pytest.param("*", ALL, id="everything is the core's business"),
    ],
)
def test_forms(read: Read, text: str, entries: list[str]) -> None:
    assert read(text) == (entries, [])


@pytest.mark.parametrize(
    "item",
    [
        *("mail.example", "*.example", "@", "192.0.2", "192.0.2.010", "10.0.0.0/255.0.0.0", "10.0.0.0/8/9", "[::::1]"),
        *("!!10.0.0.1", "^x", "lsearch;/etc/nets", "!net-lsearch;/etc/nets", "10.0.0.0/8 # x", '"10.0.0.1', "é"),
        *("${if eq{$sender_host_address}{}{10.0.0.1}}", r"\N^x\N", "+nowhere", "/nowhere/nets", "!/nowhere/nets"),
        *("<value not displayable>", "fe80::::1%eth0"),
    ],
)
def test_what_cannot_be_listed_ends_the_list(read: Read, item: str) -> None:
    entries, (warned,) = read(f"192.0.2.1 : {item} : 192.0.2.2")
    assert entries == ["192.0.2.1/32"]
    assert "left out" in warned
    assert item.lstrip("!+").partition(":")[0] in warned


def test_hidden_list(read: Read) -> None:
    assert read("1.1.1.1", "hide hostlist two = <value not displayable>", hostlist="two")[0] == []


def test_no_such_list(read: Read) -> None:
    entries, (warned,) = read("1.1.1.1", hostlist="other")
    assert entries == []
    assert "no host list other" in warned


def test_net_lookups_are_passed_over(read: Read) -> None:
    entries, warned = read("net-lsearch;/etc/nets : net24-cdb;/etc/x.cdb : 10.0.0.0/8")
    assert entries == ["10.0.0.0/8"]
    assert [line.partition(" ")[0] for line in warned] == ["net-lsearch;/etc/nets", "net24-cdb;/etc/x.cdb"]


class TestNamedLists:
    def test_matched_ones_only(self, read: Read) -> None:
        lines = ["hostlist_cache inner = !10.0.0.1 : 10.0.0.0/30", "hostlist outer = +inner"]
        assert read("+outer : 10.0.0.1", *lines)[0] == ["10.0.0.2/31", "10.0.0.0/32", "10.0.0.1/32"]
        assert read("!+outer : 10.0.0.1", *lines)[0] == ["!10.0.0.2/31", "!10.0.0.0/32", "10.0.0.1/32"]

    def test_all_but_some(self, read: Read) -> None:
        entries, _ = read("+most", "hostlist most = !128.0.0.0/1")
        assert entries == ["0.0.0.0/1", "::/0"]

    def test_one_that_cannot_be_listed(self, read: Read) -> None:
        lines = ["hostlist inner = 10.0.0.1 : a.example"]
        assert read("+inner : 10.0.0.2", *lines)[0] == ["10.0.0.1/32"]
        assert read("!+inner : 10.0.0.2", *lines)[0] == []

    def test_circle(self, read: Read) -> None:
        entries, (warned,) = read("10.0.0.1 : +a", "hostlist a = +b", "hostlist b = +a")
        assert entries == ["10.0.0.1/32"]
        assert "circles" in warned


class TestFiles:
    @pytest.fixture
    def nets(self, tmp_path: Path) -> Path:
        path = tmp_path / "nets"
        path.write_text("# 192.0.2.9\n192.0.2.1#x\n !192.0.2.2 # x\r\n\n192.0.2.0/24\n2001:db8::/32\n")
        return path

    def test_lines(self, read: Read, nets: Path) -> None:
        lines = ["192.0.2.1/32", "!192.0.2.2/32", "192.0.2.0/24", "2001:db8::/32"]
        assert read(f"{nets} : 10.0.0.1") == ([*lines, "10.0.0.1/32"], [])

    def test_excluded(self, read: Read, nets: Path) -> None:
        lines = ["!192.0.2.1/32", "192.0.2.2/32", "!192.0.2.0/24", "!2001:db8::/32"]
        assert read(f"!{nets} : 10.0.0.1") == ([*lines, "10.0.0.1/32"], [])
        assert read(f"!{nets}") == ([*lines, *ALL], [])

    def test_exclusion_in_the_last_line(self, read: Read, nets: Path) -> None:
        nets.write_text("10.0.0.1\n!10.0.0.2\n")
        assert read(str(nets))[0] == ["10.0.0.1/32", "!10.0.0.2/32", *ALL]
        assert read(f"!{nets}")[0] == ["!10.0.0.1/32", "10.0.0.2/32"]

    def test_empty(self, read: Read, nets: Path) -> None:
        nets.write_text("")
        assert read(str(nets)) == ([], [])
        assert read(f"10.0.0.1 : !{nets}") == (["10.0.0.1/32", *ALL], [])

    @pytest.mark.parametrize("line", ["+friends", "/etc/other", "10.0.0.1 : 10.0.0.2", "host.example", "<; ::1"])
    def test_lines_that_end_the_list(self, read: Read, nets: Path, line: str) -> None:
        nets.write_text(f"10.0.0.1\n{line}\n10.0.0.2\n")
        entries, (warned,) = read(f"{nets} : 10.0.0.3", "hostlist friends = 10.9.0.0/16")
        assert entries == ["10.0.0.1/32"]
        assert line in warned


def test_a_configuration_without_our_file(read: Read) -> None:
    assert WRITER.netblocks
    _, warned = read("10.0.0.1", hostlist="relay_from_hosts")
    assert not warned
    with pytest.warns(UserWarning, match="does not mention /srv/elsewhere"):
        assert len(list(WRITER.netblocks(Settings(map="cdb:/srv/elsewhere")))) == 1


@pytest.mark.usefixtures("no_exim")
def test_without_exim_only_loopback_is_permitted() -> None:
    assert WRITER.netblocks
    with pytest.warns(UserWarning, match="exim is not installed"):
        found = list(WRITER.netblocks(Settings(map=f"hosts:{OURS}")))
    assert [str(network) for network, permitted in found if permitted] == ["127.0.0.0/8", "::1/128"]


@pytest.mark.parametrize(
    ("script", "says"), [("echo 'Exim configuration error in line 4' >&2; exit 1", "error in line 4"), ("exit 3", "3")]
)
def test_a_failing_exim_is_named(fake_exim: Any, script: str, says: str) -> None:
    fake_exim.script(script)
    assert WRITER.netblocks
    with pytest.warns(UserWarning, match=says):
        assert len(list(WRITER.netblocks(Settings(map=f"hosts:{OURS}")))) == 2


def test_a_hanging_exim_is_given_up(fake_exim: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pop_before_smtp_exim._commands.TIMEOUT", 0.05)
    fake_exim.script("exec sleep 5")
    assert WRITER.netblocks
    with pytest.warns(UserWarning, match="timed out"):
        assert len(list(WRITER.netblocks(Settings(map=f"hosts:{OURS}")))) == 2


def test_exim_by_its_own_name(read: Read, fake_exim: Any) -> None:
    (fake_exim.directory / "exim4").rename(fake_exim.directory / "exim")
    assert read("10.0.0.1") == (["10.0.0.1/32"], [])
