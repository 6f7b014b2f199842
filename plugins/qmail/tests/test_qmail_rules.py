"""Rules as Debian's tcprules and tcpserver 0.88 were seen to take them, and the networks in them."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
from pop_before_smtp_qmail import Settings, _rules, pop_before_smtp_writers

(WRITER,) = pop_before_smtp_writers()


def items(tmp_path: Path, text: bytes) -> list[tuple[bytes, bytes]]:
    file = tmp_path / "rules"
    file.write_bytes(text)
    return list(_rules.read(file).items)


@pytest.mark.parametrize(
    ("line", "key", "value"),
    [
        (b"192.0.2.1:allow", b"192.0.2.1", b""),
        (b"192.0.2.1:deny", b"192.0.2.1", b"D\0"),
        (b'192.0.2.1:deny,A="x"', b"192.0.2.1", b"D\0+A=x\0"),
        (b'192.0.2.1:allow,A="x",B=/y/,C=zz', b"192.0.2.1", b"+A=x\0+B=y\0+C=\0"),
        (b'192.0.2.1:allow,A="x:y,z=1"', b"192.0.2.1", b"+A=x:y,z=1\0"),
        (b"192.0.2.1:allow,=xAx", b"192.0.2.1", b"+=A\0"),
        (b'192.0.2.1:allow, A="x"', b"192.0.2.1", b"+ A=x\0"),
        (b'192.0.2.1:allow,"A"="b"', b"192.0.2.1", b'+"A"=b\0'),
        (b"192.0.2.1:allow \t ", b"192.0.2.1", b""),
        (b" 192.0.2.1:allow", b" 192.0.2.1", b""),
        (b" # c:allow", b" # c", b""),
        (b"192.0.2.:allow", b"192.0.2.", b""),
        (b":deny", b"", b"D\0"),
        (b"=Ho-st.Example:allow", b"=Ho-st.Example", b""),
        (b"=:deny", b"=", b"D\0"),
        (b"Ident@1.2.3.4-5:allow", b"Ident@1.2.3.4-5", b""),
        (b"A\xe9:allow", b"A\xe9", b""),
        (b'2001:db8::1:allow,A="a:b"', b"2001:db8::1", b"+A=a:b\0"),
        (b"2001:db8::deny", b"2001:db8:", b"D\0"),
        (b"2001:db8:::allow", b"2001:db8::", b""),
    ],
)
def test_rules(tmp_path: Path, line: bytes, key: bytes, value: bytes) -> None:
    assert items(tmp_path, line + b"\n") == items(tmp_path, line) == [(key, value)]


@pytest.mark.parametrize(
    ("address", "keys"),
    [
        ("192.0.2.8-11", "192.0.2.8 192.0.2.9 192.0.2.10 192.0.2.11"),
        ("192.0.2.08-9", "192.0.2.8 192.0.2.9"),
        ("192.0.2.254-300", "192.0.2.254 192.0.2.255"),
        ("192.0.2-3.", "192.0.2. 192.0.3."),
        ("192.0.2-3.7", "192.0.2.7 192.0.3.7"),
        ("1-2", "1 2"),
        ("192.0.2.-1", "192.0.2.0 192.0.2.1"),
        ("1.2-3.4-5", "1.2.4-5 1.3.4-5"),
        ("192.0.2.12-8", ""),
        ("192.0.2.8-", ""),
        ("192.0.2.256-300", ""),
    ],
)
def test_ranges(tmp_path: Path, address: str, keys: str) -> None:
    found = items(tmp_path, f"{address}:deny\n".encode())
    assert found == [(key.encode(), b"D\0") for key in keys.split()]


@pytest.mark.parametrize("line", [b"", b"# 1.2.3.4:allow", b"  \t", b"no rule", b"#"])
def test_what_is_no_rule(tmp_path: Path, line: bytes) -> None:
    assert items(tmp_path, line + b"\n\n:allow") == [(b"", b"")]


@pytest.mark.parametrize(
    "line",
    [
        *(
            b"192.0.2.1:",
            b"192.0.2.1:Allow",
            b"192.0.2.1:denyx",
            b"192.0.2.1:allow,A",
            b"192.0.2.1:allow,A=",
            b"x: allow",
        ),
        *(b"192.0.2.1:allow,A=x", b"192.0.2.1:allow,", b'192.0.2.1:allow,A="x",', b'192.0.2.1:allow,A="x"B="y"'),
        *(b'192.0.2.1:allow,A="x" ,B="y"', b'192.0.2.1:allow,A="x', b"192.0.2.1:allow\r", b"192.0.2.1:allow:deny"),
        *(b"192.0.2.a-8:allow", b"192.0.2.8-9-10:allow", b"ho-st:allow", b"2001:db8::1-5:allow", b"192.0.2.1:foo:deny"),
        *(b"[2001:db8::1]:allow", b"1.2.3.1-99999999999999999999:allow"),
    ],
)
def test_mistakes_are_named_with_their_line(tmp_path: Path, line: bytes) -> None:
    with pytest.raises(_rules.RulesError, match="rules, line 3: ") as caught:
        items(tmp_path, b"# one\n:allow\n" + line + b"\n")
    assert "\n" not in str(caught.value)
    assert "\r" not in str(caught.value)


def test_of_equal_rules_the_first_counts(tmp_path: Path) -> None:
    (tmp_path / "rules").write_text('1.1.1.1-2:allow,A="x"\n1.1.1.2:deny\n')
    assert _rules.read(tmp_path / "rules").first == {b"1.1.1.1": b"+A=x\0", b"1.1.1.2": b"+A=x\0"}


def netblocks(tmp_path: Path, text: str) -> list[str]:
    (tmp_path / "rules").write_text(text)
    assert WRITER.netblocks
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = WRITER.netblocks(Settings(map="cdb:/srv/x", rules=f"{tmp_path}/rules"))
        return [("" if permitted else "!") + str(network) for network, permitted in found]


R = 'allow,RELAYCLIENT=""'


@pytest.mark.parametrize(
    ("text", "networks"),
    [
        pytest.param("", "", id="empty"),
        pytest.param(f"127.:{R}\n:allow\n", "127.0.0.0/8 !0.0.0.0/0 !::/0", id="usual"),
        pytest.param(f"10.:{R}\n10.1.:allow\n10.1.1.1:{R}", "10.1.1.1/32 !10.1.0.0/16 10.0.0.0/8", id="longest first"),
        pytest.param(f"10.1.1.8-9:{R}\n10.2-3.:{R}", "10.1.1.8/32 10.1.1.9/32 10.2.0.0/16 10.3.0.0/16", id="ranges"),
        pytest.param(f"10.1.1.1:deny\n10.1.1.1:{R}", "!10.1.1.1/32", id="the first counts"),
        pytest.param('10.:deny,RELAYCLIENT=""', "!10.0.0.0/8", id="denied in spite of it"),
        pytest.param('10.:allow,XRELAYCLIENT="",B="RELAYCLIENT="', "!10.0.0.0/8", id="other variables"),
        pytest.param(f":{R}", "0.0.0.0/0 ::/0", id="everybody is the core's business"),
        pytest.param(f"=h.example:{R}\nann@10.1.1.1:{R}\n=:{R}", "", id="names and users"),
        pytest.param(
            f"192.0.2:{R}\n192.0.02.:{R}\n1.2.3.4.:{R}\n1.2.3.04:{R}\n.:{R}\nx:{R}\n 10.:{R}", "", id="matches nobody"
        ),
        pytest.param(f"2001:db8::1:{R}\n2001:db8::2:1:{R}", "2001:db8::2:1/128 2001:db8::1/128", id="v6"),
        pytest.param(f"2001:db8:9::{R}\n2001::allow", "2001:db8:9::/48 !2001::/16", id="v6 beginnings"),
        pytest.param(f"2001:db8:::{R}\n2001:0::deny", "2001:db8::/128 !2001:db8::/32 !2001::/16", id="v6 zeros"),
        pytest.param(f"2001:DB8::1:{R}\n2001:db8:0:0::1:{R}\n2001:db8:0:1:2:3:4:5:{R}", "", id="v6 spelt otherwise"),
        pytest.param(f"2001:db8::1:2:3:4:5:{R}", "2001:db8:0:1:2:3:4:5/128", id="v6 as tcpserver spells it"),
    ],
)
def test_networks(tmp_path: Path, text: str, networks: str) -> None:
    assert netblocks(tmp_path, text) == networks.split()


def test_rules_that_cannot_be_read_are_warned_of(tmp_path: Path) -> None:
    assert WRITER.netblocks
    with pytest.warns(UserWarning, match="cannot be read: No such file"):
        assert list(WRITER.netblocks(Settings(map="cdb:/srv/x", rules=f"{tmp_path}/none"))) == []
