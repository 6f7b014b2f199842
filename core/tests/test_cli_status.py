"""``status``: is the daemon up, and what is wrong?"""

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playground import DEADLINE, Site, until
from pop_before_smtp._state import State
from pop_before_smtp._statefiles import read_status

ADDRESS = "203.0.113.7"


def status(site: Site) -> tuple[int, dict[str, Any]]:
    code, out, err = site("status", "-c", str(site.file), "--json")
    assert err == ""
    return code, json.loads(out)


@pytest.fixture
def daemon(site: Site) -> Iterator["subprocess.Popen[str]"]:
    """Give a daemon that is ready."""
    process = site.start("run", "-c", str(site.file))
    site.wait_for_line(process, "startup log-scan complete")
    until(lambda: status(site)[1]["ready"])
    yield process
    process.kill()
    process.communicate(timeout=DEADLINE)


def test_where_nothing_has_run_nothing_is_running(site: Site) -> None:
    code, found = status(site)
    assert (code, found["up"], found["sources"], found["at"]) == (1, False, [], None)
    assert site("status", "-c", str(site.file))[1] == "not running\n"


def test_up_with_nothing_wrong(site: Site, daemon: "subprocess.Popen[str]") -> None:
    code, found = status(site)
    assert (code, found["up"], found["pid"], found["problems"]) == (0, True, daemon.pid, [])
    (source,) = found["sources"]
    assert (source["source"], source["up"], source["last"]) == (str(site.log), True, None)
    site.login(ADDRESS)
    until(lambda: status(site)[1]["writers"][0]["leases"] == 1)
    code, found = status(site)
    assert code == 0
    assert found["counts"]["logins"] == 1
    assert found["sources"][0]["position"] == site.log.stat().st_size
    assert found["sources"][0]["last"]
    assert found["writers"][0]["written"]
    out = site("status", "-c", str(site.file))[1]
    assert out.startswith("up since ")
    assert "logins=1" in out
    assert (site.folder / "state/status").stat().st_mode & 0o777 == 0o640


def test_a_source_that_cannot_be_read_is_named_in_status_and_at_the_end(site: Site) -> None:
    link = site.folder / "link.log"
    link.symlink_to(site.log)
    site.configure(path=str(link))
    site.file.write_text(site.file.read_text().replace("[policy]", f'[[source]]\npath = "{site.log}"\n[policy]'))
    process = site.start("run", "-c", str(site.file))
    site.wait_for_line(process, "startup log-scan complete")
    link.unlink()
    link.mkdir()
    site.login(ADDRESS)
    site.wait_for_line(process, str(link))
    process.send_signal(signal.SIGTERM)
    _, log = process.communicate(timeout=DEADLINE)
    (counts,) = [line for line in log.splitlines() if " counts: " in line]
    assert str(link) in counts
    code, found = status(site)
    assert (code, found["up"], found["killed"]) == (1, False, False)
    assert any(str(link) in problem for problem in found["problems"])
    assert "not running: ended; as of " in site("status", "-c", str(site.file))[1]


@pytest.mark.usefixtures("daemon")
def test_a_log_that_vanishes_is_named(site: Site) -> None:
    site.log.unlink()
    until(lambda: status(site)[1]["problems"] != [], 3 * DEADLINE)  # it might only be rotated
    code, found = status(site)
    assert (code, found["sources"][0]["up"]) == (1, False)
    assert found["problems"] == [f"{site.log} does not exist"]


def test_after_a_kill_the_last_words_are_shown_with_their_age(site: Site, daemon: "subprocess.Popen[str]") -> None:
    daemon.kill()
    daemon.communicate(timeout=DEADLINE)
    code, found = status(site)
    assert (code, found["up"], found["killed"], found["pid"]) == (1, False, True, None)
    assert found["age"] < 60
    assert "not running: killed; as of " in site("status", "-c", str(site.file))[1]


def test_what_the_daemon_before_published_is_not_taken_for_todays(site: Site, daemon: "subprocess.Popen[str]") -> None:
    daemon.kill()
    daemon.communicate(timeout=DEADLINE)
    state = State.open(site.folder / "state")
    code, found = status(site)
    assert (code, found["up"], found["ready"], found["sources"]) == (0, True, False, [])
    assert site("status", "-c", str(site.file))[1] == f"starting, pid {os.getpid()}\n"
    state.close()


@pytest.mark.parametrize("text", ["", "{", "[]", "7"])
def test_a_damaged_status_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "status").write_text(text)
    assert read_status(tmp_path) is None


def test_a_silent_log_publishes_nothing(site: Site, daemon: "subprocess.Popen[str]") -> None:
    assert daemon.poll() is None
    published = site.folder / "state/status"
    until(lambda: time.time() - published.stat().st_mtime > 1)
    before = published.stat().st_mtime_ns
    time.sleep(1)
    assert published.stat().st_mtime_ns == before


def test_the_service_manager_is_told(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(DEADLINE)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        daemon = site.start("run", "-c", str(site.file))
        told = ""
        while not told.startswith("STATUS="):
            told = manager.recv(4096).decode()
        daemon.kill()
        daemon.communicate(timeout=DEADLINE)
    assert told == "STATUS=1 source, 1 writer"
