"""Where mail servers may ask, and what is said about places where they may not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pop_before_smtp import Lookup
from pop_before_smtp._serve import problems


@pytest.fixture
def path(tmp_path: Path) -> Path:
    tmp_path.chmod(0o755)
    return tmp_path / "relay"


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ({"listen": "unix:relative"}, "map: "),
        ({"listen": "unix:"}, "map: "),
        ({"listen": "inet:7777"}, "map: "),
        ({"listen": "inet:localhost:7777"}, "map: "),
        ({"listen": "inet:127.0.0.1:0"}, "map: "),
        ({"listen": "inet:127.0.0.1:65536"}, "map: "),
        ({"listen": "inet:::1:7777"}, "map: "),
        ({"listen": "inet:[::1%lo]:7777"}, "map: "),
        ({"listen": "inet:0.0.0.0:7777"}, "map: other machines reach 0.0.0.0"),
        ({"listen": "inet:[::]:7777"}, "map: other machines reach ::"),
        ({"listen": "inet:198.51.100.1:7777"}, "set allow_remote = true"),
        ({"listen": "unix:/nosuch/directory/relay"}, "map: /nosuch/directory does not exist"),
        ({"listen": "unix:/tmp/relay"}, "map: /tmp is writable by others"),
        ({"mode": "rw"}, 'mode: "rw" is no mode'),
        ({"group": "no-such-group"}, 'group: there is no group "no-such-group"'),
    ],
)
def test_what_speaks_against_listening(path: Path, keys: dict[str, Any], says: str) -> None:
    (problem,) = problems(Lookup(**{"protocol": "policy", "listen": f"unix:{path}", **keys}))
    assert says in problem
    assert "\n" not in problem


def test_what_is_allowed(path: Path) -> None:
    for keys in (
        {"listen": f"unix:{path}", "mode": "666"},
        {"listen": "inet:127.0.0.2:1"},
        {"listen": "inet:[::1]:65535"},
        {"listen": "inet:0.0.0.0:7777", "allow_remote": True},
    ):
        assert list(problems(Lookup(**{"protocol": "policy", **keys}))) == []


def test_a_lookup_that_no_mail_server_understands_is_refused() -> None:
    for keys in ({"protocol": "tcp"}, {"reply": ""}, {"reply": "OK\nx"}, {"reply": "\u00e9"}):
        with pytest.raises(ValueError, match=r"protocol|reply"):
            Lookup(**{"protocol": "policy", "listen": "inet:127.0.0.1:1", **keys})
