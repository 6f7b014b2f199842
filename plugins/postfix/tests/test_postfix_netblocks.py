"""``mynetworks``, form by form, as Postfix 3.7 was seen to read it with clients of its own."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pop_before_smtp.api import Changes
from pop_before_smtp.maps.cdb import CdbMap
from pop_before_smtp_postfix import Settings, pop_before_smtp_writers
from pop_before_smtp_postfix._netblocks import netblocks

(WRITER,) = pop_before_smtp_writers()
OURS = "lmdb:/var/lib/pop-before-smtp/relay"
Read = Callable[..., tuple[list[str], list[str]]]


@pytest.fixture
def read(fake_postfix: Any) -> Read:
    """Return ``read(mynetworks)`` -> (entries, exclusions with a ``!``; warnings)."""

    def run(mynetworks: str, **settings: str) -> tuple[list[str], list[str]]:
        fake_postfix.say(xh=mynetworks + "\n")
        assert WRITER.netblocks
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            found = list(WRITER.netblocks(Settings(map=settings.pop("map", OURS), **settings)))
        entries = [("" if permitted else "!") + str(network) for network, permitted in found]
        return entries, [str(warning.message) for warning in caught]

    return run


@pytest.mark.parametrize(
    ("mynetworks", "entries"),
    [
        pytest.param("", [], id="empty"),
        pytest.param("127.0.0.0/8 [::1]/128", ["127.0.0.0/8", "::1/128"], id="blanks"),
        pytest.param("127.0.0.0/8,[::1]/128 ,\t10.0.0.0/8", ["127.0.0.0/8", "::1/128", "10.0.0.0/8"], id="commas"),
        pytest.param("192.0.2.1 [192.0.2.2] [192.0.2.0]/28", ["192.0.2.1/32", "192.0.2.2/32", "192.0.2.0/28"], id="v4"),
        pytest.param("[2001:db8::]/32 [2001:DB8:1::/48]", ["2001:db8::/32", "2001:db8:1::/48"], id="v6"),
        pytest.param("[fe80::]/10 [::1]", ["fe80::/10", "::1/128"], id="link-local"),
        pytest.param("0.0.0.0/0 [::]/0", ["0.0.0.0/0", "::/0"], id="everything is the core's business"),
        pytest.param(
            "!203.0.113.5 203.0.113.0/24 !10.0.0.0/8",
            ["!203.0.113.5/32", "203.0.113.0/24", "!10.0.0.0/8"],
            id="exclusions in order",
        ),
        pytest.param("!!192.0.2.1 !!![2001:db8::1]", ["192.0.2.1/32", "!2001:db8::1/128"], id="twice not"),
        pytest.param("127.0.0.0/8 [::ffff:127.0.0.0]/104 [::1]/128", ["127.0.0.0/8", "::1/128"], id="Debian"),
        pytest.param("[::ffff:203.0.113.0]/120 [::ffff:203.0.113.9]", [], id="mapped never matches in Postfix"),
        pytest.param("127.0.0.0/8 #203.0.113.10 203.0.113.11", ["127.0.0.0/8"], id="comment ends the list"),
    ],
)
def test_forms(read: Read, mynetworks: str, entries: list[str]) -> None:
    assert read(mynetworks) == (entries, [])


@pytest.mark.parametrize(
    "pattern",
    [
        *(
            "mail.example",
            ".example",
            "203.0.113",
            "203.0.113.10/24",
            "203.0.113.0/255.255.255.0",
            "0/0",
            "203.0.113.010",
        ),
        *("{203.0.113.10, 203.0.113.11}", "[2001:db8::]/129", "[2001:db8::", "[]", "[2001:db8::1%eth0]", "é"),
    ],
)
def test_what_is_no_network_is_named_and_left_out(read: Read, pattern: str) -> None:
    entries, warned = read(f"192.0.2.1 {pattern} 192.0.2.2")
    assert entries == ["192.0.2.1/32", "192.0.2.2/32"]
    assert len(warned) == 1
    assert pattern in warned[0]


def test_bare_v6_counts_with_a_warning(read: Read) -> None:
    entries, warned = read("2001:db8:77::/48 2001:db8::1")
    assert entries == ["2001:db8:77::/48", "2001:db8::1/128"]
    assert len(warned) == 2
    assert "[ ]" in warned[0]


def test_an_exclusion_that_cannot_be_listed_ends_the_list(read: Read) -> None:
    entries, warned = read("192.0.2.1 !mail.example 10.0.0.0/8")
    assert entries == ["192.0.2.1/32"]
    assert "all networks after it" in warned[0]


class TestFiles:
    def test_nested_with_comments(self, read: Read, tmp_path: Path) -> None:
        inner, outer = tmp_path / "inner", tmp_path / "outer"
        inner.write_text("192.0.2.3\n  192.0.2.4, !192.0.2.5\n")
        outer.write_text(f"# 192.0.2.1\n192.0.2.2 # 192.0.2.9\n\n{inner}\n")
        entries, warned = read(f"{outer} 10.0.0.0/8")
        assert entries == ["192.0.2.2/32", "192.0.2.3/32", "192.0.2.4/32", "!192.0.2.5/32", "10.0.0.0/8"]
        assert not warned

    def test_excluded_as_a_whole(self, read: Read, tmp_path: Path) -> None:
        (tmp_path / "bad").write_text("192.0.2.3\n!192.0.2.4\n")
        assert read(f"!{tmp_path}/bad 192.0.2.0/24")[0] == ["!192.0.2.3/32", "192.0.2.4/32", "192.0.2.0/24"]

    def test_missing(self, read: Read) -> None:
        entries, warned = read("/nowhere/nets 10.0.0.0/8")
        assert entries == ["10.0.0.0/8"]
        assert "/nowhere/nets cannot be read" in warned[0]
        assert read("!/nowhere/nets 10.0.0.0/8")[0] == []

    def test_in_a_circle(self, read: Read, tmp_path: Path) -> None:
        (tmp_path / "a").write_text(f"192.0.2.1\n{tmp_path}/b\n")
        (tmp_path / "b").write_text(f"192.0.2.2\n{tmp_path}/a\n")
        entries, warned = read(f"{tmp_path}/a")
        assert entries == ["192.0.2.1/32", "192.0.2.2/32"]
        assert len(warned) == 1


class TestTables:
    @pytest.mark.parametrize("table", ["hash:/etc/nets", "proxy:btree:/etc/nets", "texthash:/etc/nets"])
    def test_listed_by_postmap(self, read: Read, fake_postfix: Any, table: str) -> None:
        fake_postfix.table(
            table.removeprefix("proxy:"), "192.0.2.7", "2001:db8::7", "192.0.2", "mail.example", "2001:DB8::8", ""
        )
        assert read(f"{table} 10.0.0.0/8") == (["192.0.2.7/32", "2001:db8::7/128", "10.0.0.0/8"], [])

    def test_inline_is_one_word(self, read: Read, fake_postfix: Any) -> None:
        fake_postfix.table("inline:{192.0.2.7=x, 192.0.2.8=y}", "192.0.2.7", "192.0.2.8")
        assert read("inline:{192.0.2.7=x, 192.0.2.8=y} 10.0.0.0/8")[0] == ["192.0.2.7/32", "192.0.2.8/32", "10.0.0.0/8"]

    def test_cdb_is_read_here(self, read: Read, tmp_path: Path) -> None:
        keys = {"192.0.2.7", "2001:db8::7"}
        CdbMap(tmp_path / "nets.cdb").write(Changes(added=keys, removed=set(), current=keys))
        assert sorted(read(f"cdb:{tmp_path}/nets")[0]) == ["192.0.2.7/32", "2001:db8::7/128"]
        (tmp_path / "nets.cdb").write_bytes(b"short")
        assert "cannot be read" in read(f"cdb:{tmp_path}/nets")[1][0]

    def test_cidr_is_read_here(self, read: Read, tmp_path: Path) -> None:
        nets = tmp_path / "nets"
        nets.write_text("# comment\n192.0.2.0/24 OK\n   continued\n2001:db8::/32 x\n203.0.113 skipped\n\n")
        assert read(f"cidr:{nets}") == (["192.0.2.0/24", "2001:db8::/32"], [])
        nets.write_text("!192.0.2.0/24 OK\n")
        assert "conditions" in read(f"cidr:{nets}")[1][0]

    @pytest.mark.parametrize("kind", ["lmdb", "proxy:lmdb", "cdb"])
    @pytest.mark.parametrize(
        "path",
        ["/var/lib/pop-before-smtp/relay", "/var//lib/x/../pop-before-smtp/./relay", "/var/lib/pop-before-smtp/other"],
    )
    def test_our_own_maps_are_skipped(self, read: Read, kind: str, path: str) -> None:
        assert read(f"10.0.0.0/8 {kind}:{path} !{kind}:{path} 192.0.2.1") == (["10.0.0.0/8", "192.0.2.1/32"], [])

    @pytest.mark.parametrize(
        "table", ["pcre:/etc/nets", "socketmap:inet:127.0.0.1:7777:x", "ldap:/etc/nets", "hash:/no"]
    )
    def test_others_are_named(self, read: Read, table: str) -> None:
        entries, warned = read(f"{table} 10.0.0.0/8")
        assert entries == ["10.0.0.0/8"]
        assert table in warned[0]

    def test_too_many_entries(self, read: Read, fake_postfix: Any) -> None:
        fake_postfix.table("hash:/etc/nets", *(f"10.{i >> 8}.{i & 255}.1" for i in range(10_001)))
        entries, warned = read("hash:/etc/nets 192.0.2.1")
        assert entries == ["192.0.2.1/32"]
        assert "more than 10,000" in warned[0]


@pytest.mark.parametrize(
    ("table", "spelt"),
    [
        ("socketmap:unix:/var/spool/postfix/pbs/relay", "socketmap:unix:pbs/relay:x"),
        ("socketmap:unix:/run/pbs/relay", "socketmap:unix:/run/pbs/relay:x"),
        ("socketmap:inet:127.0.0.1:7777", "socketmap:inet:127.0.0.1:7777:x"),
        ("policy:unix:/var/spool/postfix/pbs/policy", "{ unix:pbs/policy, default_action=DUNNO }"),
    ],
)
def test_sockets_are_found_in_every_spelling(fake_postfix: Any, table: str, spelt: str) -> None:
    fake_postfix.say(P=f"25/inet/smtpd_relay_restrictions = check_x {spelt}, reject\n")
    assert list(netblocks(Settings(map=table)))
    fake_postfix.say(P="25/inet/smtpd_relay_restrictions = reject\n")
    with pytest.warns(UserWarning, match="leases do not count there"):
        assert list(netblocks(Settings(map=table)))


def test_services_with_settings_of_their_own_are_reported(read: Read, fake_postfix: Any) -> None:
    fake_postfix.say(
        P="submission/inet/mynetworks = 127.0.0.0/8\n"
        "submission/inet/smtpd_relay_restrictions = permit_sasl_authenticated,reject\n"
        f"2525/inet/smtpd_relay_restrictions = permit_auth_destination check_client_access {OURS} reject\n"
    )
    entries, (networks, restrictions) = read("127.0.0.0/8")
    assert entries == ["127.0.0.0/8"]
    assert "submission/inet has its own mynetworks (127.0.0.0/8)" in networks
    assert "submission/inet has its own smtpd_relay_restrictions" in restrictions


@pytest.mark.usefixtures("no_postfix")
def test_without_postconf_only_loopback_is_permitted() -> None:
    assert WRITER.netblocks
    with pytest.warns(UserWarning, match="postconf is not installed"):
        found = list(WRITER.netblocks(Settings(map=OURS)))
    assert [str(network) for network, permitted in found if permitted] == ["127.0.0.0/8", "::1/128"]


def test_a_failing_postconf_is_named(fake_postfix: Any) -> None:
    fake_postfix.script("postconf", "echo 'postconf: fatal: bad main.cf' >&2; exit 1")
    assert WRITER.netblocks
    with pytest.warns(UserWarning, match="fatal: bad main.cf"):
        assert len(list(WRITER.netblocks(Settings(map=OURS)))) == 2


def test_another_instance_is_asked(read: Read, tmp_path: Path, fake_postfix: Any) -> None:
    fake_postfix.script("postconf", 'echo "$@" >> "$dir/asked"')
    read("", config_directory=str(tmp_path))
    asked = (fake_postfix.directory / "asked").read_text().splitlines()
    assert asked
    assert all(line.startswith(f"-c {tmp_path} ") for line in asked)
