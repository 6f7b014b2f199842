"""What a parser may not be, and the one line that says so to its author."""

from __future__ import annotations

from typing import Any

import pytest
from pop_before_smtp._match import Matcher
from pop_before_smtp.api import CONNECT, FAILURE, LOGIN, LOGOUT, LogParser, LogPattern
from pop_before_smtp.errors import PluginError

GOOD: dict[str, Any] = {
    "kind": LOGIN,
    "program": rb"popd",
    "message": rb"login (?P<user>.*) from (?P<ip>\S+)",
    "contains": [b"login "],
}


def parser(*patterns: dict[str, Any]) -> LogParser:
    return LogParser(name="popd", patterns=[LogPattern(**GOOD), *(LogPattern(**{**GOOD, **each}) for each in patterns)])


@pytest.mark.parametrize(
    ("changes", "what", "why"),
    [
        ({"message": rb"login (\S+) from (?P<ip>\S+)"}, ".message", "unnamed group; write (?:...)"),
        ({"program": rb"(popd)"}, ".program", "unnamed group"),
        ({"message": rb"login (?P<name>.*) from (?P<ip>\S+)"}, ".message", "group 'name'; known are ip, lip, "),
        ({"program": rb"(?P<ip>popd)"}, ".program", "group 'ip'; known are service, session, tls, user"),
        ({"message": rb"login (?=x)(?P<ip>\S+)"}, ".message", "no RE2 pattern"),
        ({"message": rb"login (?P<user>.*)\1 from (?P<ip>\S+)"}, ".message", "no RE2 pattern"),
        ({"message": rb"login (?P<ip>\S+"}, ".message", "no RE2 pattern"),
        ({"program": rb"*"}, ".program", "no RE2 pattern"),
        ({"message": rb"login (?P<ip>\S+) (?P<ip>\S+)"}, ".message", " group"),
        ({"program": rb"popd(?P<user>.*)"}, "", "'user' is defined twice"),
        ({"fixed": {"user": "ann"}}, "", "'user' is defined twice"),
        ({"fixed": {"colour": "red"}}, "", "fixed has the key 'colour'; known are service, session, tls, user"),
        ({"fixed": {"ip": "192.0.2.1"}}, "", "'ip'"),
        ({"fixed": {"tls": "yes"}}, "", "fixed['tls'] is 'yes'; it must be True or False"),
        ({"fixed": {"service": b"pop3"}}, "", "fixed['service'] is b'pop3'; it must be a str"),
        ({"contains": [b"login"]}, "", "literals of 6 bytes or more"),
        ({"contains": [b"login ", b"x"]}, "", "literals of 6 bytes or more"),
        ({"contains": []}, "", "literals of 6 bytes or more"),
        ({"message": rb"login (?P<user>.*)"}, "", "a login needs the group 'ip'"),
        ({"kind": CONNECT, "message": rb"login (?P<user>.*)"}, "", "a connect needs the group 'ip'"),
    ],
)
def test_one_line_names_the_parser_the_pattern_and_what_is_wrong(changes: dict[str, Any], what: str, why: str) -> None:
    with pytest.raises(PluginError) as caught:
        Matcher([parser(changes)])
    text = str(caught.value)
    assert text.startswith(f"parser 'popd': patterns[1]{what}: ")
    assert why in text
    assert "\n" not in text


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"program": rb"popd(?P<service>.*)(?P<tls>-tls)?", "fixed": {"user": "ann"}, "message": rb"login (?P<ip>\S+)"},
        {"kind": LOGOUT, "message": rb"login (?P<session>\S+)", "fixed": {"tls": True}},
        {"message": rb"(?:login|Login) (?P<ip>\S+) (?P<lip>\S*)"},
        {"message": rb"(?s:login .*)(?P<ip>\S+)"},
    ],
)
def test_what_is_allowed(changes: dict[str, Any]) -> None:
    Matcher([parser(changes)])


def test_a_server_of_two_lines_needs_no_address_in_its_logins() -> None:
    Matcher([parser({"kind": CONNECT}, {"message": rb"login (?P<user>.*)"}, {"kind": FAILURE, "message": rb"login x"})])


@pytest.mark.parametrize(
    "broken", [{"kind": "login"}, {"program": "popd"}, {"message": "x"}, {"contains": ["login "]}, {"contains": None}]
)
def test_wrong_types_are_refused_where_they_are_written(broken: dict[str, Any]) -> None:
    with pytest.raises(TypeError):
        LogPattern(**{**GOOD, **broken})
