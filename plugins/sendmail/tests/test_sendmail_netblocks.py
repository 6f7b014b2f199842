"""Class R and the access map, entry by entry, as sendmail 8.17 was seen to read them."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
from pop_before_smtp_sendmail import Settings, pop_before_smtp_writers

(WRITER,) = pop_before_smtp_writers()
OURS = "hash:/var/lib/pop-before-smtp/popauth"
WIRED = "Kpopbeforesmtp hash -o /var/lib/pop-before-smtp/popauth\n"
ACCESS = "Kaccess hash -T<TMPF> /etc/mail/access\n"
LOOPBACK = ["127.0.0.1/32", "::1/128"]
Read = Callable[..., tuple[list[str], list[str]]]


@pytest.fixture
def read(fake_sendmail: Any) -> Read:
    """Return ``read(sendmail_cf)`` -> (entries without loopback, exclusions with a ``!``; warnings)."""

    def run(cf: str = WIRED, **settings: str) -> tuple[list[str], list[str]]:
        fake_sendmail.cf.write_text(cf)
        settings = {"map": OURS, "config_file": str(fake_sendmail.cf)} | settings
        assert WRITER.netblocks
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            found = [
                ("" if permitted else "!") + str(network)
                for network, permitted in WRITER.netblocks(Settings(**settings))
            ]
        assert found[:2] == LOOPBACK
        return found[2:], [str(warning.message) for warning in caught]

    return run


@pytest.mark.parametrize(
    ("member", "entries"),
    [
        ("10", ["10.0.0.0/8"]),
        ("10.1", ["10.1.0.0/16"]),
        ("192.168.7", ["192.168.7.0/24"]),
        ("203.0.113.77", ["203.0.113.77/32"]),
        ("172.16.", ["172.16.0.0/16"]),
        ("IPv6:2001:db8:77", ["2001:db8:77::/48"]),
        ("ipv6:2001:DB8:81", ["2001:db8:81::/48"]),
        ("IPv6:2001:db8:80:", ["2001:db8:80::/48"]),
        ("IPv6:2001:db8:78:0:0:0:0:1", ["2001:db8:78::1/128"]),
    ],
)
def test_class_r(read: Read, fake_sendmail: Any, member: str, entries: list[str]) -> None:
    fake_sendmail.class_r(member)
    assert read() == (entries, [])


@pytest.mark.parametrize(
    "member",
    [
        "friend.example",
        "192.168.1.0/24",
        "10.01",
        "10.256",
        "203.0.113.77.",
        "1.2.3.4.5",
        "10..",
        "2001:db8:77",
        "IPv6:2001:0db8:83",
        "IPv6:2001:db8:79::5",
        "IPv6:2001:db8:1:2:3:4:5:6:",
        "IPv6:",
        "[10.1.2.3]",
        "é",
    ],
)
def test_what_is_no_network_in_class_r_is_named(read: Read, fake_sendmail: Any, member: str) -> None:
    fake_sendmail.class_r("10.1", member, "10.2")
    entries, (warned,) = read()
    assert entries == ["10.1.0.0/16", "10.2.0.0/16"]
    assert member.lower() in warned


def test_the_longest_access_entry_counts(read: Read, fake_sendmail: Any) -> None:
    entries = ["connect:10 RELAY", "connect:10.1 REJECT", "10.1.2 RELAY", "connect:10.1.2.3 OK", "10.1.2.3 RELAY"]
    entries += ["connect:ipv6:2001:db8:77 relay", "connect:ipv6:2001:db8:77:1 ERROR:5.7.1:550 no"]
    entries += [
        "spam:10.9 RELAY",
        "from:x@y.example RELAY",
        "host.example RELAY",
        "connect:ipv6:::1 RELAY",
        "10.7. RELAY",
    ]
    fake_sendmail.table("hash", "/etc/mail/access", *entries)
    assert read(WIRED + ACCESS) == (
        [
            "!2001:db8:77:1::/64",
            "2001:db8:77::/48",
            "!10.1.2.3/32",
            "10.1.2.3/32",
            "10.1.2.0/24",
            "!10.1.0.0/16",
            "10.0.0.0/8",
        ],
        [],
    )


def test_class_r_comes_first(read: Read, fake_sendmail: Any) -> None:
    fake_sendmail.class_r("10.1")
    fake_sendmail.table("hash", "/etc/mail/access", "connect:10.1.2.3 REJECT")
    assert read(WIRED + ACCESS)[0] == ["10.1.0.0/16", "!10.1.2.3/32"]


def test_our_own_member_of_a_sequence_is_skipped(read: Read, fake_sendmail: Any) -> None:
    cf = "Kours hash -o /srv/access\nKtheirs hash /etc/mail/access\nKaccess sequence ours theirs nowhere\n"
    fake_sendmail.table("hash", "/srv/access", "connect:203.0.113.9 RELAY")
    fake_sendmail.table("hash", "/etc/mail/access", "connect:10 RELAY")
    assert read(cf, map="hash:/srv/access", form="access") == (["10.0.0.0/8"], [])


@pytest.mark.parametrize("line", ["Kaccess ldap -k(x=%0)\n", "Kaccess hash /no/such\n"])
def test_access_map_that_cannot_be_listed(read: Read, line: str) -> None:
    entries, (warned,) = read(WIRED + line)
    assert entries == []
    assert "cannot be listed" in warned


def test_too_many_entries(read: Read, fake_sendmail: Any) -> None:
    lines = [f"connect:10.{n >> 8}.{n & 255}.1 RELAY" for n in range(10_001)]
    fake_sendmail.table("hash", "/etc/mail/access", *lines)
    entries, (warned,) = read(WIRED + ACCESS)
    assert entries == []
    assert "more than 10,000" in warned


def test_map_that_sendmail_does_not_read_is_reported(read: Read) -> None:
    assert "declares no hash:/var/lib/pop-before-smtp/popauth" in read("")[1][0]
    assert "declares no text:/srv/p" in read(WIRED, map="text:/srv/p")[1][0]
    assert read("", map="socketmap:unix:/run/p") == ([], [])


def test_without_sendmail_cf_only_loopback_is_permitted(read: Read) -> None:
    entries, (warned,) = read(config_file="/no/such.cf")
    assert entries == []
    assert "/no/such.cf: No such file or directory; sendmail is not installed" in warned


@pytest.mark.usefixtures("no_sendmail")
def test_without_the_commands_only_loopback_is_permitted(read: Read) -> None:
    entries, warned = read(WIRED + ACCESS)
    assert entries == []
    assert ["sendmail is not installed" in warned[0], "makemap is not installed" in warned[1]] == [True, True]


def test_a_failing_sendmail_is_named(read: Read, fake_sendmail: Any) -> None:
    fake_sendmail.script("sendmail", "echo 'sendmail: no' >&2; exit 70")
    assert "sendmail: no" in read()[1][0]


def test_another_sendmail_is_asked(read: Read, fake_sendmail: Any) -> None:
    read()
    assert (fake_sendmail.directory / "asked").read_text() == f"-C {fake_sendmail.cf} -bt\n"
