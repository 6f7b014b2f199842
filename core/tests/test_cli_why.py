"""``why``: what is remembered of one address, with the daemon up, stopped, killed, or older than this program."""

import json
import os
import pwd
import re
import signal
import sqlite3
import time
from collections.abc import Callable
from typing import Any

import pytest
from playground import DEADLINE, Site, until
from pop_before_smtp import LOGIN, LoginEvent
from pop_before_smtp._state import State

ADDRESS = "203.0.113.7"


def remember(site: Site, *ago: float, address: str = ADDRESS, **fields: Any) -> None:
    """Store logins that happened so many seconds ago."""
    known = {"user": "ann", "service": "pop3", "parser": "popd", "source": str(site.log), "tls": True} | fields
    state = State.open(site.folder / "state")
    now = time.time()
    state.append([LoginEvent(kind=LOGIN, address=address, at=now - each, received=now, **known) for each in ago], {})
    state.close()


def why(site: Site, address: str = ADDRESS) -> tuple[int, dict[str, Any]]:
    code, out, err = site("why", "-c", str(site.file), "--json", address)
    assert err == ""
    return code, json.loads(out)


def test_what_is_remembered_and_for_how_long(site: Site) -> None:
    remember(site, 900, 60)
    remember(site, 300, user="bob", service="imap", tls=None, position=7)
    code, found = why(site)
    assert code == 0
    bob, ann = sorted(found["logins"], key=lambda login: login["user"], reverse=True)
    assert (ann["tls"], ann["parser"], ann["source"]) == (True, "popd", str(site.log))
    assert (bob["user"], bob["service"], bob["tls"], bob["position"]) == ("bob", "imap", None, 7)
    assert ann["first"] < bob["first"] == bob["last"] < ann["last"]
    (lease,) = found["writers"]
    assert 1730 < lease["remaining"] <= 1740
    assert lease["reason"] is None
    _, out, _ = site("why", "-c", str(site.file), ADDRESS)
    assert "user ann, service pop3, TLS, parser popd" in out
    assert re.search(r"last [-0-9]+ [:0-9]+ \(1m\d\ds ago\)", out)
    assert re.search(r"may relay for 2[89]m\d\ds, until ", out)


@pytest.mark.parametrize("text", ["2001:DB8:0::7", "2001:db8::7", "2001:0db8:0000::0007"])
def test_any_spelling_is_the_same_address(site: Site, text: str) -> None:
    remember(site, 60, address="2001:db8::7")
    assert why(site, text)[0] == 0


def test_an_address_that_ipv6_wraps_is_the_same_address(site: Site) -> None:
    remember(site, 60)
    assert why(site, f"::ffff:{ADDRESS}")[1]["address"] == ADDRESS


@pytest.mark.parametrize("text", ["", "ann", "203.0.113", "203.0.113.7/32", "fe80::1%eth0", "\x1b[31m"])
def test_nonsense_is_wrong_usage(site: Site, text: str) -> None:
    code, out, err = site("why", "-c", str(site.file), text)
    assert (code, out, len(err.splitlines())) == (64, "", 1)
    assert "\x1b" not in err


@pytest.mark.parametrize(
    ("policy", "writer", "reason"),
    [
        ("refuse = ['203.0.113.0/24']", "", "refused_network"),
        ("services = ['imap']", "", "service"),
        ("users = ['bob']", "", "user"),
        ("", "users = ['bob']", "user"),
        ("", "netblocks = ['203.0.113.0/24']", "netblocks"),
        ("", "grace = '30s'", "expired"),
    ],
)
def test_why_there_is_no_lease_by_the_configuration_of_today(site: Site, policy: str, writer: str, reason: str) -> None:
    remember(site, 60)
    site.configure(policy=policy, writer=writer)
    code, found = why(site)
    assert code == 1
    assert [each["reason"] for each in found["writers"]] == [reason]
    assert "no lease: " in site("why", "-c", str(site.file), ADDRESS)[1]


def test_no_login_or_one_of_the_future_is_no_lease(site: Site) -> None:
    assert why(site)[1]["writers"][0]["reason"] == "no_login"
    assert why(site, "127.0.0.1")[1]["writers"][0]["reason"] == "never"
    remember(site, -3600)
    assert why(site)[1]["writers"][0]["reason"] == "future"


def test_when_it_ended_is_said(site: Site) -> None:
    remember(site, 1980)
    code, out, _ = site("why", "-c", str(site.file), ADDRESS)
    assert code == 1
    assert "no lease: expired" in out
    assert re.search(r"\(3m\d\ds ago\)", out)


def test_the_line_is_shown_where_the_file_still_holds_it(site: Site) -> None:
    site.login("203.0.113.1")
    position = site.log.stat().st_size
    site.login(ADDRESS)
    remember(site, 60, position=position)
    shown = site.log.read_text().splitlines()[1]
    assert why(site)[1]["logins"][0]["line"] == shown
    assert shown in site("why", "-c", str(site.file), ADDRESS)[1]
    site.log.write_text("rotated\n" * 100)
    assert why(site)[1]["logins"][0]["line"] is None
    site.log.unlink()
    assert why(site)[1]["logins"][0]["line"] is None


def test_beside_the_daemon_and_after_a_kill(site: Site) -> None:
    daemon = site.start("run", "-c", str(site.file))
    site.wait_for_line(daemon, "startup log-scan complete")
    site.login(ADDRESS)
    until(lambda: why(site)[0] == 0)
    daemon.kill()
    daemon.communicate(timeout=DEADLINE)
    code, found = why(site)
    assert (code, len(found["logins"])) == (0, 1)
    assert found["logins"][0]["line"] == site.log.read_text().strip()


def older(site: Site) -> None:
    """Make the state one that the schema before has left."""
    connection = sqlite3.connect(site.folder / "state" / "state.sqlite", isolation_level=None)
    connection.executescript(
        """DROP TABLE source; CREATE TABLE source (name PRIMARY KEY, device TEXT NOT NULL, inode TEXT NOT NULL,
        offset INTEGER NOT NULL, fingerprint BLOB NOT NULL, fingerprint_size INTEGER NOT NULL);
        INSERT INTO source VALUES ('/gone.log', '1', '2', 3, x'00', 4); PRAGMA user_version = 1"""
    )
    connection.close()


def test_the_state_of_the_version_before_is_read_as_it_is(site: Site) -> None:
    remember(site, 60)
    older(site)
    before = (site.folder / "state" / "state.sqlite").read_bytes()
    assert why(site)[0] == 0
    assert json.loads(site("list", "-c", str(site.file), "--json")[1])[0]["address"] == ADDRESS
    assert site("check", "-c", str(site.file))[0] == 0
    assert (site.folder / "state" / "state.sqlite").read_bytes() == before


def test_beside_a_daemon_of_the_version_before_a_restart_is_asked_for(site: Site) -> None:
    remember(site, 60)
    state = State.open(site.folder / "state")
    older(site)
    code, _, err = site("why", "-c", str(site.file), ADDRESS)
    assert code == 1
    assert err.strip().endswith("state.sqlite: an older pop-before-smtp is still running on it; restart that")
    state.close()


NOBODY = pwd.getpwnam("nobody").pw_uid
GROUP = 61_002


@pytest.mark.skipif(os.geteuid() != 0 and os.environ.get("CI") != "true", reason="needs root to become somebody else")
@pytest.mark.parametrize("command", [("why", ADDRESS), ("status",), ("list",)])
def test_a_member_of_the_group_needs_no_more_than_read_access(
    site: Site, command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon = site.start("run", "-c", str(site.file))
    site.wait_for_line(daemon, "startup log-scan complete")
    site.login(ADDRESS)
    until(lambda: why(site)[0] == 0)
    directory = site.folder / "state"
    for path in (directory, *directory.iterdir()):
        os.chown(path, 0, GROUP)
    monkeypatch.setenv("COLUMNS", "80")
    asked: Callable[[], int] = lambda: site(command[0], "-c", str(site.file), *command[1:])[0]  # noqa: E731 - for a fork
    folders = [*site.folder.parents][:3]
    modes = [folder.stat().st_mode for folder in (*folders, site.folder)]
    for folder in (*folders, site.folder):
        folder.chmod(folder.stat().st_mode | 0o055)
    try:
        assert as_member(asked) == 0
        daemon.send_signal(signal.SIGKILL)
        daemon.communicate(timeout=DEADLINE)
        assert as_member(asked) == (1 if command == ("status",) else 0)
    finally:
        for folder, mode in zip((*folders, site.folder), modes, strict=True):
            folder.chmod(mode)


def as_member(asked: Callable[[], int]) -> int:
    """Return the exit code of what a member of the group asks."""
    child = os.fork()
    if child == 0:
        code = 99
        try:
            os.setgroups([GROUP])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            code = asked()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
