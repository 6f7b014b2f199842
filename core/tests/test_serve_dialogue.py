"""What mail servers that ask are told, however their bytes come: never an exception, never OK without a lease."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pop_before_smtp._serve.dialogue import DIALOGUES, Violation

LEASED = b"203.0.113.7"
NAMES = [b"", b"unknown", b"203.0.113", b"203.0.113.70", b"::ffff:203.0.113.7", b"203.0.113.7%lo", b"203.0.113.7\0"]


def netstring(text: bytes) -> bytes:
    return b"%d:%s," % (len(text), text)


def policy(address: bytes, *more: bytes) -> bytes:
    lines = [b"request=smtpd_access_policy", b"protocol_state=RCPT", b"client_address=" + address, *more]
    return b"\n".join(lines) + b"\n\n"


def ask(protocol: str, pieces: list[bytes], most: int = 200) -> tuple[bytes, bool]:
    """Return what is said to these bytes, and whether the connection is cut."""
    dialogue = DIALOGUES[protocol](lambda address: address == LEASED, b"OK")
    said = b""
    try:
        for piece in pieces:
            dialogue.take(piece)
            count = most
            while count == most:
                count, answer = dialogue.answers(most)
                said += answer
            assert len(dialogue._held) <= 16 * 1024 + 8
    except Violation as violation:
        return said + violation.reply, True
    return said, False


OK = {"socketmap": netstring(b"OK OK"), "policy": b"action=OK\n\n"}
NOT = {"socketmap": netstring(b"NOTFOUND "), "policy": b"action=DUNNO\n\n"}
QUESTION = {"socketmap": lambda address: netstring(b"relay " + address), "policy": policy}
PROTOCOLS = pytest.mark.parametrize("protocol", DIALOGUES)


@PROTOCOLS
def test_only_a_lease_is_found(protocol: str) -> None:
    question = QUESTION[protocol]
    assert ask(protocol, [question(LEASED)]) == (OK[protocol], False)
    for name in NAMES:
        assert ask(protocol, [question(name)]) == (NOT[protocol], False)


@PROTOCOLS
def test_questions_on_end_are_answered_in_order(protocol: str) -> None:
    question = QUESTION[protocol]
    asked = b"".join(question(LEASED) + question(b"unknown") for _ in range(300))
    for most in (1, 7, 200):
        assert ask(protocol, [asked], most) == ((OK[protocol] + NOT[protocol]) * 300, False)


@PROTOCOLS
@given(data=st.data())
def test_it_does_not_matter_how_the_bytes_are_cut(protocol: str, data: st.DataObject) -> None:
    addresses = data.draw(st.lists(st.sampled_from([LEASED, *NAMES]), max_size=6))
    asked = b"".join(map(QUESTION[protocol], addresses)) + data.draw(st.binary(max_size=20))
    cuts = data.draw(st.lists(st.integers(0, len(asked)), max_size=20).map(sorted))
    pieces = [asked[start:end] for start, end in pairwise([0, *cuts, len(asked)])]
    assert ask(protocol, pieces) == ask(protocol, [asked])


@PROTOCOLS
@given(asked=st.lists(st.binary(max_size=60) | st.sampled_from([b"5:x y,", b"\n\n", b"client_address=", b"11:", b","])))
@example(asked=[b"\xb2:ab,"])
@example(asked=[b"99999999999999999999:"])
def test_no_bytes_are_ever_too_strange(protocol: str, asked: list[bytes]) -> None:
    said, _ = ask(protocol, asked)
    assert LEASED in b"".join(asked) or OK[protocol] not in said


@pytest.mark.parametrize("address", [*NAMES, LEASED])
@pytest.mark.parametrize("protocol", DIALOGUES)
def test_requests_that_were_cut_short_wait(protocol: str, address: bytes) -> None:
    question = QUESTION[protocol](address)
    for end in range(len(question)):
        assert ask(protocol, [question[:end]]) == (b"", False)


@pytest.mark.parametrize(
    "bad",
    [
        b"x",
        b":",
        b"-1:,",
        b"+5:x y z,",
        b" 5:x y z,",
        b"05:x y z,",
        b"5:x y zz",
        b"16385:",
        b"1000000",
        b"\xc2\xb2:ab,",
        b"get 203.0.113.7\n",
    ],
)
def test_what_is_no_netstring_ends_the_connection(bad: bytes) -> None:
    question = netstring(b"relay " + LEASED)
    assert ask("socketmap", [question + bad + question]) == (OK["socketmap"], True)


@pytest.mark.parametrize("name", [b"relay", b"", b"any-other", b"\xff"])
def test_a_socketmap_may_have_any_name(name: bytes) -> None:
    assert ask("socketmap", [netstring(name + b" " + LEASED)]) == (OK["socketmap"], False)


@pytest.mark.parametrize(
    "text", [LEASED, b"", b"0:", b"relay  203.0.113.7", b"relay 203.0.113.7 ", b"relay\n203.0.113.7"]
)
def test_a_netstring_that_is_no_question_finds_nothing(text: bytes) -> None:
    assert ask("socketmap", [netstring(text)]) == (NOT["socketmap"], False)


@pytest.mark.parametrize(
    "bad",
    [
        b"\n\n",
        b"\nrequest=smtpd_access_policy\n\n",
        b"request=junk_policy\nclient_address=203.0.113.7\n\n",
        b"client_address=203.0.113.7\n\n",
        b"request=smtpd_access_policy\nclient_address=203.0.113.7\njunk\n\n",
        b"request=smtpd_access_policy\r\nclient_address=203.0.113.7\r\n\r\n\n\n",
        b"x=" + b"y" * 16 * 1024,
    ],
)
def test_what_is_no_policy_request_ends_the_connection(bad: bytes) -> None:
    assert ask("policy", [policy(LEASED) + bad + policy(LEASED)]) == (OK["policy"], True)


def test_a_policy_request_with_two_addresses_finds_nothing() -> None:
    for second in (LEASED, b"203.0.113.8", b""):
        assert ask("policy", [policy(LEASED, b"client_address=" + second)]) == (NOT["policy"], False)
    assert ask("policy", [policy(b"203.0.113.8", b"helo_name=x client_address=" + LEASED)]) == (NOT["policy"], False)
    assert ask("policy", [b"request=smtpd_access_policy\n\n"]) == (NOT["policy"], False)
