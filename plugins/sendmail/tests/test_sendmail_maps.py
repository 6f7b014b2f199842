"""The contract for each kind and form of map, the spelling of its keys, and what a ``[[writer]]`` may say."""

from __future__ import annotations

import sys
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pop_before_smtp.api import Lookup, Map
from pop_before_smtp.errors import ConfigError
from pop_before_smtp.maps import bdb, text
from pop_before_smtp.testing import WriterTests
from pop_before_smtp_sendmail import Settings, _maps, pop_before_smtp_writers
from pop_before_smtp_sendmail._keys import canonical, spellings
from pop_before_smtp_sendmail._netblocks import network

(WRITER,) = pop_before_smtp_writers()


class SendmailTests(WriterTests):
    writer = WRITER
    mode = 0o644
    kind = ""
    form = "popauth"

    @pytest.fixture(autouse=True)
    def _sendmail(self, fake_sendmail: Any) -> None:
        assert fake_sendmail

    def settings(self, directory: Path) -> Settings:
        return Settings(map=f"{self.kind}:{directory}/popauth", form=self.form)

    def read(self, target: Map) -> set[str]:
        tag, value, most = {"popauth": ("", b"OK", 2), "access": ("connect:", b"RELAY", 1)}[self.form]
        if self.kind == "text":
            found = dict(line.split(b" ") for line in text.read(target.path))
        else:
            found = bdb.read(target.path)
        assert set(found.values()) <= {value}
        keys = {key.decode().removeprefix(tag) for key in found}
        addresses = {canonical(key.encode()).decode() for key in keys}
        assert keys == {spelling for address in addresses for spelling in [*spellings(address)][:most]}
        return addresses


class TestHash(SendmailTests):
    kind = "hash"


class TestBtree(SendmailTests):
    kind = "btree"


class TestText(SendmailTests):
    kind = "text"


class TestAccess(SendmailTests):
    kind, form = "hash", "access"


@pytest.mark.parametrize(
    ("address", "keys"),
    [
        ("203.0.113.7", ["203.0.113.7"]),
        ("2001:db8:9::10", ["ipv6:2001:db8:9:0:0:0:0:10", "ipv6:2001:db8:9::10"]),
        ("2001:db8:1:2:3:4:5:6", ["ipv6:2001:db8:1:2:3:4:5:6"]),
        ("::", ["ipv6:0:0:0:0:0:0:0:0", "ipv6:::"]),
    ],
)
def test_spellings(address: str, keys: list[str]) -> None:
    assert list(spellings(address)) == keys


@given(st.ip_addresses())
def test_each_key_is_one_whole_address(address: IPv4Address | IPv6Address) -> None:
    """As an entry of an access map, which takes leading parts for networks, a key opens its own address only."""
    full, *others = spellings(str(address))
    opened = network(full)
    assert opened
    assert [*opened] == [address]
    for key in (full, *others):
        assert canonical(key.encode()) == canonical(key.upper().encode()) == str(address).encode()
    assert all(network(key) is None for key in others)  # with ``::`` it is asked for as a whole or not at all


@pytest.mark.parametrize(
    "key", [b"unknown", b"192.0.2", b"ipv6:", b"ipv6:2001:db8", b"ipv6:192.0.2.1", b"ipv6:\xff", b"ipv6:::1%eth0", b""]
)
def test_what_is_no_address_stays_as_it_was_asked(key: bytes) -> None:
    assert canonical(key) == key


@pytest.mark.parametrize(
    ("spec", "file"),
    [("hash:/srv/p", "/srv/p.db"), ("btree:/srv//p", "/srv/p.db"), ("text:/srv/p.txt", "/srv/p.txt")],
)
def test_path_is_the_file_that_sendmail_opens(spec: str, file: str) -> None:
    target = WRITER.open(Settings(map=spec))
    assert isinstance(target, Map)
    assert target.path == Path(file)
    assert target.rewrites
    assert not target.networks


def test_socket() -> None:
    target = WRITER.open(Settings(map="socketmap:unix:/run/pop-before-smtp/sendmail"))
    assert isinstance(target, Lookup)
    assert (target.protocol, target.listen, target.reply) == ("socketmap", "unix:/run/pop-before-smtp/sendmail", "OK")
    assert target.address
    assert target.address(b"ipv6:2001:db8:9:0:0:0:0:10") == b"2001:db8:9::10"


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"map": "/srv/p"}, "map: '/srv/p' is none of hash, btree, text and socketmap"),
        ({"map": "dbm:/srv/p"}, "map: 'dbm:/srv/p' is none of"),
        ({"map": "hash:p"}, "map: 'hash:p' needs the absolute path"),
        ({"map": "hash:/srv/"}, "map: 'hash:/srv/' needs the absolute path"),
        ({"map": "text:/srv/a b"}, "without blanks"),
        ({"map": "hash:/srv/p.db"}, "map: sendmail adds .db itself; write hash:/srv/p"),
        ({"map": "text:/srv/p", "form": "connect"}, "form: 'connect' is none of popauth, access"),
        ({"map": "socketmap:unix:/run/p", "form": "access"}, "map: socketmap answers for whole addresses"),
        ({"map": "text:/srv/p", "config_file": "sendmail.cf"}, "config_file: 'sendmail.cf' is no absolute path"),
    ],
)
def test_wrong_settings(settings: dict[str, str], says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        WRITER.open(Settings(**settings))
    (problem,) = caught.value.problems
    assert says in problem
    assert "\n" not in problem


def test_missing_python_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "berkeleydb", None)
    monkeypatch.delitem(sys.modules, "pop_before_smtp.maps.bdb", raising=False)
    with pytest.raises(ConfigError, match=r"pip install 'pop-before-smtp-sendmail\[bdb\]'"):
        WRITER.open(Settings(map="hash:/srv/p"))
    assert WRITER.open(Settings(map="text:/srv/p"))


@pytest.mark.parametrize(
    ("line", "keys"),
    [
        ("", None),
        ("Kpopbeforesmtp hash -o /var/lib/p/popauth", {"map": "hash:/var/lib/p/popauth"}),
        ("Kpopbeforesmtp btree /var/lib/p/popauth.db", {"map": "btree:/var/lib/p/popauth"}),
        ("Kpopbeforesmtp text -k0 -v1 /var/lib/p/popauth.txt", {"map": "text:/var/lib/p/popauth.txt"}),
        ("Kpopbeforesmtp socket local:/run/p", None),
        ("Kaccess hash /etc/mail/access", None),
    ],
)
def test_defaults_are_those_of_the_hack(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, keys: dict[str, str] | None
) -> None:
    cf = tmp_path / "sendmail.cf"
    monkeypatch.setattr(_maps, "CONFIG_FILE", str(cf))
    assert WRITER.defaults
    assert WRITER.defaults(Path("/var/lib/x")) is None
    cf.write_text(f"V10/Berkeley\n{line}\nR$*\t$: $1\n")
    assert WRITER.defaults(Path("/var/lib/x")) == keys
