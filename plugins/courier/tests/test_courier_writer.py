"""The file below smtpaccess, and makesmtpaccess after each write; a script stands for the latter."""

from __future__ import annotations

import warnings
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pop_before_smtp.api import Changes, Map
from pop_before_smtp.errors import ConfigError, MapError
from pop_before_smtp.maps.text import read
from pop_before_smtp.testing import WriterTests
from pop_before_smtp_courier import Settings, _writer, pop_before_smtp_writers
from pop_before_smtp_courier._access import entries, key

(WRITER,) = pop_before_smtp_writers()


class FakeCourier:
    """makesmtpaccess as a script, ahead of the real one on the path."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir()
        self.access = directory / "smtpaccess"
        self.access.mkdir()
        self.says(": > $dir/ran")

    def says(self, script: str) -> None:
        """Replace the command."""
        path = self.directory / "makesmtpaccess"
        path.write_text(f"#!/bin/sh\ndir={self.directory}\n{script}\n")
        path.chmod(0o755)

    @property
    def ran(self) -> bool:
        """Whether it ran since this was asked last."""
        path = self.directory / "ran"
        result = path.exists()
        path.unlink(missing_ok=True)
        return result

    def settings(self) -> Settings:
        """Return those for a file in the directory."""
        return Settings(map=f"smtpaccess:{self.access}/pop-before-smtp")

    def netblocks(self, **files: str) -> list[str]:
        """Return what other files say, exclusions with a ``!``."""
        for name, text in files.items():
            (self.access / name).write_text(text)
        assert WRITER.netblocks
        return [("" if permitted else "!") + str(network) for network, permitted in WRITER.netblocks(self.settings())]


@pytest.fixture
def courier(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeCourier:
    monkeypatch.setenv("PATH", f"{tmp_path}/courier:/usr/bin:/bin")
    return FakeCourier(tmp_path / "courier")


def addresses(target: Map) -> set[str]:
    keys, values = zip(*(line.decode().split("\t") for line in read(target.path)), strict=True) or ((), ())
    assert set(values) <= {"allow,RELAYCLIENT"}
    return {str(ip_address(each.removeprefix(":") if each.startswith(":") else each)) for each in keys}


def put(target: Map, *keys: str) -> None:
    target.write(Changes(added=set(keys), removed=set(), current=set(keys)))


class TestContract(WriterTests):
    writer = WRITER

    @pytest.fixture(autouse=True)
    def _courier(self, courier: FakeCourier) -> None:
        assert courier

    def settings(self, directory: Path) -> Settings:
        return Settings(map=f"smtpaccess:{directory}/pop-before-smtp")

    def read(self, target: Map) -> set[str]:
        return addresses(target) if read(target.path) else set()


def test_lines(courier: FakeCourier) -> None:
    target = WRITER.open(courier.settings())
    assert isinstance(target, Map)
    put(target, "192.0.2.10", "2001:db8:9::10")
    assert target.path.read_text() == (
        "192.0.2.10\tallow,RELAYCLIENT\n:2001:0db8:0009:0000:0000:0000:0000:0010\tallow,RELAYCLIENT\n"
    )


@given(st.ip_addresses())
def test_each_key_is_one_whole_address(address: IPv4Address | IPv6Address) -> None:
    """couriertcpd takes leading parts of addresses for networks."""
    assert [([*network], permitted) for network, permitted in entries(f"{key(str(address))}\tRELAYCLIENT\n")] == [
        ([address], True)
    ]


def test_every_change_is_compiled(courier: FakeCourier) -> None:
    target = WRITER.open(courier.settings())
    assert isinstance(target, Map)
    for change in (lambda: put(target, "192.0.2.10"), lambda: put(target), target.clear):
        change()
        assert courier.ran


@pytest.mark.parametrize(
    ("script", "says"),
    [
        ("echo 'Cannot store' >&2; echo more >&2; exit 1", "makesmtpaccess: Cannot store"),
        ("exit 3", "exit status 3"),
        ("echo ' esmtpd.pid.lock: Permission denied' >&2", "esmtpd.pid.lock: Permission denied"),
        ("exec sleep 5", "timed out"),
    ],
)
def test_failure_is_reported_and_mended(
    courier: FakeCourier, monkeypatch: pytest.MonkeyPatch, script: str, says: str
) -> None:
    monkeypatch.setattr(_writer, "TIMEOUT", 0.2)
    target = WRITER.open(courier.settings())
    assert isinstance(target, Map)
    courier.says(script)
    for change in (lambda: put(target, "192.0.2.10"), target.clear):
        with pytest.raises(MapError) as caught:
            change()
        assert says in str(caught.value)
        assert "\n" not in str(caught.value)
    courier.says(": > $dir/ran")
    put(target, "192.0.2.10")
    assert courier.ran
    assert addresses(target) == {"192.0.2.10"}


def test_missing_command(courier: FakeCourier, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_writer, "SBIN", ())
    target = WRITER.open(courier.settings())
    assert isinstance(target, Map)
    (courier.directory / "makesmtpaccess").unlink()
    with pytest.raises(MapError, match="makesmtpaccess is not installed"):
        put(target, "192.0.2.10")


def test_lines_of_the_administrator_never_come_twice(courier: FakeCourier) -> None:
    target = WRITER.open(courier.settings())
    assert isinstance(target, Map)
    (courier.access / "mine").write_text(
        "192.0.2.1\tdeny\n192.0.2.64/28\tallow\n192.0.3\tallow\n192.0.4.0/23\tallow\n"
        ":2001:0db8:0000:0000:0000:0000:0000:0001\tallow\n2001:db8:1::/48\tallow\n"
    )
    put(target, "192.0.2.1", "192.0.2.70", "192.0.2.80", "192.0.3.1", "192.0.4.1", "2001:db8::1", "2001:db8:1::1")
    assert addresses(target) == {"192.0.2.80", "192.0.3.1", "192.0.4.1", "2001:db8:1::1"}


@pytest.mark.parametrize(
    ("line", "networks"),
    [
        ("10\tallow,RELAYCLIENT", ["10.0.0.0/8"]),
        ("192.168\tallow,RELAYCLIENT", ["192.168.0.0/16"]),
        ("192.0.2.10\tRELAYCLIENT", ["192.0.2.10/32"]),
        ("192.0.2.10\tallow,RELAYCLIENT=,X=y", ["192.0.2.10/32"]),
        ("192.0.2.0/28\tallow,RELAYCLIENT", ["192.0.2.0/28"]),
        ("192.0.2.10/32 allow,RELAYCLIENT", ["192.0.2.10/32"]),
        ("192.0.2.8-192.0.2.11\tallow,RELAYCLIENT", ["192.0.2.8/30"]),
        (":0000:0000:0000:0000:0000:0000:0000:0001\tallow,RELAYCLIENT", ["::1/128"]),
        (":2001:0db8:0009\tallow,RELAYCLIENT", ["2001:db8:9::/48"]),
        ("2001:db8:9::/48\tallow,RELAYCLIENT", ["2001:db8:9::/48"]),
        ("192.0.2\tallow", ["!192.0.2.0/24"]),
        ("192.0.2\tdeny,RELAYCLIENT", ["!192.0.2.0/24"]),
        ("192.0.2\tallow,relayclient", ["!192.0.2.0/24"]),
        ('192.0.2\tallow,RELAYCLIENT="@x"', ["!192.0.2.0/24"]),
        ("192.0.2 allow,RELAYCLIENT", []),
        ("192.0.2.\tallow,RELAYCLIENT", []),
        ("192.0.256\tallow,RELAYCLIENT", []),
        ("192.0.02\tallow,RELAYCLIENT", []),
        (":2001:db8:9\tallow,RELAYCLIENT", []),
        ("2001:db8:9::10\tallow,RELAYCLIENT", []),
        ("192.0.2.0/33\tallow,RELAYCLIENT", []),
        ("192.0.2.9-2001:db8::1\tallow,RELAYCLIENT", []),
        ("host.example\tallow,RELAYCLIENT", []),
        ("# 10\tallow,RELAYCLIENT", []),
    ],
)
def test_netblocks(courier: FakeCourier, line: str, networks: list[str]) -> None:
    assert courier.netblocks(default=f"\n{line}\n") == networks


def test_the_longest_line_of_all_files_counts(courier: FakeCourier) -> None:
    a, b = "10\tallow,RELAYCLIENT\n10.1.2.3\tallow,RELAYCLIENT\n", "10.1\tdeny\n10.1.2.3\tallow\n"
    backups = {
        "b~": "203\tRELAYCLIENT\n",
        "b.dpkg-old": "203\tRELAYCLIENT\n",
        "pop-before-smtp": "203.0.113.1\tRELAYCLIENT\n",
    }
    assert courier.netblocks(a=a, b=b, **backups) == ["!10.1.2.3/32", "!10.1.0.0/16", "10.0.0.0/8"]


def test_without_the_directory_only_loopback_is_permitted(courier: FakeCourier) -> None:
    courier.access.rmdir()
    with pytest.warns(UserWarning, match="cannot be read, so only loopback"):
        assert courier.netblocks() == ["127.0.0.1/32", "::1/128"]


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"map": "/etc/courier/smtpaccess/x"}, "map: '/etc/courier/smtpaccess/x' is no file below smtpaccess"),
        ({"map": "hash:/x"}, "map: 'hash:/x' is no file below"),
        ({"map": "smtpaccess:x"}, "needs the absolute path"),
        ({"map": "smtpaccess:/x/"}, "needs the absolute path"),
        ({"map": "smtpaccess:/x/y~"}, "takes /x/y~ for a backup"),
        ({"map": "smtpaccess:/x/y.dpkg-new"}, "takes /x/y.dpkg-new for a backup"),
        ({"map": "smtpaccess:/x/y", "command": ""}, "command: '' is no command"),
    ],
)
def test_wrong_settings(settings: dict[str, str], says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        WRITER.open(Settings(**settings))
    (problem,) = caught.value.problems
    assert says in problem


def test_defaults(courier: FakeCourier, monkeypatch: pytest.MonkeyPatch) -> None:
    defaults: Any = WRITER.defaults
    monkeypatch.setattr(_writer, "_DIRECTORY", courier.access)
    assert defaults(Path("/var/lib/x")) == {"map": f"smtpaccess:{courier.access}/pop-before-smtp"}
    monkeypatch.setattr(_writer, "_DIRECTORY", courier.directory / "no")
    assert defaults(Path("/var/lib/x")) is None


def test_what_the_start_was_told_is_not_told_again(courier: FakeCourier) -> None:
    target = WRITER.open(courier.settings())
    assert isinstance(target, Map)
    (courier.access / "broken").symlink_to("nowhere")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        put(target, "192.0.2.10")
    assert addresses(target) == {"192.0.2.10"}
