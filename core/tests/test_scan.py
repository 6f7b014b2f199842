"""The first pass: whatever it does to be quick, it finds the lines that hold a literal, once each and in order."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from pop_before_smtp._scan import scanner

LITERALS = [b"-login: Login: ", b"-login: Logged in: ", b"LOGIN, user=", b", user=", b" host=", b"Session from "]
LINES = st.sampled_from(
    [
        b"",
        b"x" * 300,
        b"-login: Login: user=<a>",
        b"imap-login: Login: , user=x host=y",
        b"pop3-login: Logged in: ",
        b"-login: Log",
        b"in: user",
        b"LOGIN, user=a",
        b" host=" * 9,
        b"Session from ",
        b"S",
    ]
)


def simple(data: bytes, literals: list[bytes]) -> list[bytes]:
    return [line for line in data.split(b"\n") if any(literal in line for literal in literals)]


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.sampled_from(LITERALS), unique=True),
    st.lists(st.lists(LINES, max_size=40), max_size=30),
    st.booleans(),
)
def test_every_line_with_a_literal_is_found(literals: list[bytes], blocks: list[list[bytes]], ended: bool) -> None:
    scan = scanner(literals)
    for lines in blocks:
        data = b"\n".join(lines) + b"\n" * ended
        assert [data[start:end] for start, end in scan(data)] == simple(data, literals)


def test_logs_in_which_logins_become_frequent_and_rare_again() -> None:
    scan = scanner(LITERALS[:2])
    many, other = b"-login: Login: a\nx\n" * 50, b"-login: Logged in: a\nx\n" * 50
    few = b"x" * 99 + b"\n"
    for data in [many] * 20 + [other] * 20 + [few * 500] * 20 + [many + other] * 20:
        assert [data[start:end] for start, end in scan(data)] == simple(data, LITERALS)


def test_many_literals_that_begin_differently() -> None:
    literals = [bytes([first]) + b"-literal" for first in b"abcdefghij"]
    data = b"\n".join([*literals, b"none", *reversed(literals)])
    assert [data[start:end] for start, end in scanner(literals)(data)] == simple(data, literals)
