"""The cdb for tcpserver: the contract, and how rules and leases meet in it."""

from __future__ import annotations

import os
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path

import hypothesis
import pytest
from hypothesis import strategies as st
from pop_before_smtp.api import Changes, Map
from pop_before_smtp.errors import ConfigError, MapError
from pop_before_smtp.maps import cdb
from pop_before_smtp.testing import WriterTests
from pop_before_smtp_qmail import Settings, _rules, pop_before_smtp_writers
from pop_before_smtp_qmail._map import spellings

(WRITER,) = pop_before_smtp_writers()
LEASE = b"+RELAYCLIENT=\0"
RULES = """# the administrator's
127.:allow,RELAYCLIENT=""
203.0.113.9:deny
203.0.113.8:allow,RBLSMTPD=""
198.18.:deny
198.18.1.:allow,QMAILQUEUE="/bin/scan"
2001:db8:bad:deny
2001:db8:bad::deny
:allow,QMAILQUEUE="/bin/spam"
"""
STATIC = {
    b"127.": LEASE,
    b"203.0.113.9": b"D\0",
    b"203.0.113.8": b"+RBLSMTPD=\0",
    b"198.18.": b"D\0",
    b"198.18.1.": b"+QMAILQUEUE=/bin/scan\0",
    b"2001:db8:bad": b"D\0",
    b"2001:db8:bad:": b"D\0",
    b"": b"+QMAILQUEUE=/bin/spam\0",
}


def settings(directory: Path, rules: str = RULES, **keys: str) -> Settings:
    (directory.parent / "tcp.smtp").write_text(rules)
    return Settings(map=f"cdb:{directory}/tcp.smtp.cdb", rules=f"{directory.parent}/tcp.smtp", **keys)


def write(target: Map, *keys: str) -> dict[bytes, bytes]:
    """Write and return all that the map holds; of equal keys the first."""
    target.write(Changes(added=set(keys), removed=set(), current=set(keys)))
    return cdb.read(target.path)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    path = tmp_path / "maps"
    path.mkdir(mode=0o755)
    return path


class TestContract(WriterTests):
    writer = WRITER
    mode = 0o644

    def settings(self, directory: Path) -> Settings:
        return settings(directory)

    def read(self, target: Map) -> set[str]:
        found = cdb.read(target.path)
        assert found.items() >= STATIC.items()
        leases = found.keys() - STATIC.keys()
        assert {found[key] for key in leases} <= {STATIC[b""] + LEASE}
        return {key.decode() for key in leases}


@pytest.mark.parametrize(
    ("address", "value"),
    [
        pytest.param("203.0.113.7", b"+QMAILQUEUE=/bin/spam\0" + LEASE, id="default"),
        pytest.param("198.18.1.7", b"+QMAILQUEUE=/bin/scan\0" + LEASE, id="longest network"),
        pytest.param("203.0.113.9", b"D\0", id="denied address"),
        pytest.param("203.0.113.8", b"+RBLSMTPD=\0", id="known address"),
        pytest.param("198.18.2.7", None, id="denied network"),
        pytest.param("2001:db8:bad::7", None, id="denied network of IPv6"),
        pytest.param("2001:db8:badd::7", b"+QMAILQUEUE=/bin/spam\0" + LEASE, id="network that begins alike"),
        pytest.param("2001:db8::bad", b"+QMAILQUEUE=/bin/spam\0" + LEASE, id="IPv6"),
    ],
)
def test_a_lease_adds_to_what_the_rules_say(directory: Path, address: str, value: bytes | None) -> None:
    assert write(WRITER.open(settings(directory)), address).get(address.encode()) == value


@pytest.mark.parametrize("rules", ["", ":deny\n", ":allow\n", '1.2.3.4:allow,A="x"\n'])
def test_a_default_that_denies_is_for_those_who_are_not_listed(directory: Path, rules: str) -> None:
    assert write(WRITER.open(settings(directory, rules)), "203.0.113.7")[b"203.0.113.7"] == LEASE


def test_what_a_lease_sets_can_be_chosen(directory: Path) -> None:
    target = WRITER.open(settings(directory, ":allow\n", value="RELAYCLIENT='@x',RBLSMTPD=\"\""))
    assert write(target, "203.0.113.7")[b"203.0.113.7"] == b"+RELAYCLIENT=@x\0+RBLSMTPD=\0"


class TestTheRulesChange:
    def test_at_the_next_write(self, directory: Path) -> None:
        target = WRITER.open(settings(directory))
        write(target)
        rules = directory.parent / "tcp.smtp"
        rules.write_text('10.:allow,A="new"\n')
        assert write(target, "10.1.1.1") == {b"10.": b"+A=new\0", b"10.1.1.1": b"+A=new\0" + LEASE}
        new = rules.with_name("new")
        new.write_text('10.:allow,A="fed"\n')
        os.utime(new, ns=(rules.stat().st_mtime_ns,) * 2)
        new.replace(rules)
        assert write(target) == {b"10.": b"+A=fed\0"}
        target.clear()
        assert cdb.read(target.path) == {b"10.": b"+A=fed\0"}

    @pytest.mark.parametrize("wrong", ["10.:allow\n11.:alow\n", None])
    def test_for_the_worse(self, directory: Path, wrong: str | None) -> None:
        """The last good map stays, the way to the empty one stays open, and mending the rules mends all."""
        target = WRITER.open(settings(directory))
        before = write(target, "203.0.113.7")
        rules = directory.parent / "tcp.smtp"
        rules.unlink()
        if wrong:
            rules.write_text(wrong)
        for _ in range(2):
            with pytest.raises(
                MapError, match="tcp.smtp, line 2: neither allow" if wrong else "tcp.smtp cannot be read: No such"
            ):
                write(target)
            assert cdb.read(target.path) == before
        target.clear()
        assert cdb.read(target.path) == STATIC
        rules.write_text(":allow\n")
        assert write(target, "203.0.113.7") == {b"": b"", b"203.0.113.7": LEASE}

    def test_and_the_disk_is_full(self, directory: Path) -> None:
        """The empty map of before is still there for the leases that have to end."""
        from pop_before_smtp.testing._writers import full_disk  # noqa: PLC0415 - the kit's own

        target = WRITER.open(settings(directory))
        write(target, "203.0.113.7")
        (directory.parent / "tcp.smtp").write_text("9.9.9.9:deny\n")
        with full_disk(0):
            with pytest.raises(MapError):
                write(target)
            target.clear()
        assert cdb.read(target.path) == STATIC
        assert write(target) == {b"9.9.9.9": b"D\0"}


class TestOpen:
    @pytest.mark.parametrize(
        "path", ["/srv/tcp.cdb", "cdb:tcp.cdb", "cdb:", "cdb:/srv/", "hash:/srv/tcp", "tcprules:/srv/tcp.cdb", ""]
    )
    def test_wrong_map(self, tmp_path: Path, path: str) -> None:
        (tmp_path / "r").write_text("")
        with pytest.raises(ConfigError, match=r"^map: .* is not cdb: and the absolute path"):
            WRITER.open(Settings(map=path, rules=f"{tmp_path}/r"))

    @pytest.mark.parametrize(
        "value",
        [
            "",
            "RELAYCLIENT",
            "RELAYCLIENT=",
            'RBLSMTPD=""',
            'allow,RELAYCLIENT=""',
            'RELAYCLIENT="",',
            'RELAYCLIENT=""\n',
        ],
    )
    def test_wrong_value(self, directory: Path, value: str) -> None:
        with pytest.raises(ConfigError, match=r"^value: "):
            WRITER.open(settings(directory, value=value))

    def test_rules_that_are_the_map(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match=r"^rules: .* is the map itself"):
            WRITER.open(Settings(map=f"cdb:{tmp_path}/x.cdb", rules=f"{tmp_path}//x.cdb"))

    def test_wrong_rules(self, directory: Path) -> None:
        with pytest.raises(
            ConfigError, match=r"^rules: /.*/tcp.smtp, line 2: 'allw' is not spelt|^rules: .*line 2: neither"
        ):
            WRITER.open(settings(directory, "127.:allow\n10.:allw\n"))
        with pytest.raises(ConfigError, match=r"^rules: /nowhere/rules cannot be read: No such file"):
            WRITER.open(Settings(map="cdb:/srv/x", rules="/nowhere/rules"))
        with pytest.raises(ConfigError, match=r"^rules: 'tcp.smtp' is no absolute path"):
            WRITER.open(Settings(map="cdb:/srv/x", rules="tcp.smtp"))

    def test_rules_for_host_names_are_warned_of(self, directory: Path) -> None:
        with pytest.warns(UserWarning, match="rules: what =.bad.example says does not count"):
            WRITER.open(settings(directory, "=.bad.example:deny\n"))


@hypothesis.given(address=st.ip_addresses(v=6))
def test_every_spelling_is_of_the_address(address: IPv6Address) -> None:
    assert {ip_address(one) for one in spellings(str(address))} == {address}


def test_a_single_zero_is_shortened_as_tcpserver_does() -> None:
    assert spellings("2001:db8:0:1:2:3:4:5")[0] == "2001:db8::1:2:3:4:5"
    assert spellings("2001:db8:1:2:3:4:5:0")[0] == "2001:db8:1:2:3:4:5::"
    assert spellings("0:1:2:3:4:5:6:7")[0] == "::1:2:3:4:5:6:7"
    assert spellings("2001:0:1:0:1:0:1:0")[0] == "2001::1:0:1:0:1:0"
    assert spellings("2001:db8::1:0:0:1") == ("2001:db8::1:0:0:1",)
    assert spellings("203.0.113.10") == ("203.0.113.10",)


GROUPS = st.lists(st.sampled_from([0, 0, 0, 1, 0x2001]), min_size=8, max_size=8)
ADDRESSES = GROUPS.map(lambda groups: IPv6Address(":".join(f"{group:x}" for group in groups))) | st.ip_addresses()


@hypothesis.settings(max_examples=200, deadline=None)
@hypothesis.given(leased=ADDRESSES, other=ADDRESSES)
@hypothesis.example(leased=ip_address("2001:db8:9::"), other=ip_address("2001:db8:9::1"))
@hypothesis.example(leased=ip_address("2001:1:1:1:1:1::"), other=ip_address("2001:1:1:1:1:1:0:1"))
def test_a_lease_opens_nothing_but_itself(
    tmp_path_factory: pytest.TempPathFactory, leased: IPv4Address | IPv6Address, other: IPv4Address | IPv6Address
) -> None:
    """tcpserver asks for a whole address, then for its beginnings that end in a dot or colon, then for nothing."""
    rules = tmp_path_factory.getbasetemp() / "none"
    rules.touch()
    target = WRITER.open(Settings(map="cdb:/srv/x.cdb", rules=str(rules)))
    keys = {key.decode() for key, _ in target.items({str(leased)})}
    hypothesis.assume(leased != other)
    for asked in spellings(str(other)):
        assert keys.isdisjoint(
            {asked, "", *(asked[:end] for end in range(len(asked)) if asked[:end].endswith((".", ":")))}
        )


def test_defaults_are_for_machines_with_qmail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert WRITER.defaults
    rules, program = tmp_path / "rules", tmp_path / "qmail-smtpd"
    monkeypatch.setattr("pop_before_smtp_qmail._map._RULES", str(rules))
    monkeypatch.setattr("pop_before_smtp_qmail._map._QMAIL", (str(program),))
    rules.touch()
    assert WRITER.defaults(tmp_path) is None
    program.touch()
    assert WRITER.defaults(tmp_path) == {"map": f"cdb:{tmp_path}/tcp.smtp.cdb"}
    assert _rules.read(rules).items == ()
