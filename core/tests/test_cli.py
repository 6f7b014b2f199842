"""The commands, as somebody at a terminal would use them."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pop_before_smtp import LOGIN, LoginEvent, _cli
from pop_before_smtp._cli._common import printable, span
from pop_before_smtp._cli._match import as_dict, as_json_text

DEADLINE = 15.0


class Site:
    """A log, a map, a state and a configuration file below one folder, and the command."""

    def __init__(self, folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self.log = folder / "mail.log"
        self.map = folder / "relay"
        self.file = folder / "pop-before-smtp.toml"
        self._capture = capfd
        self.log.touch()
        self.configure()

    def configure(self, top: str = "", policy: str = "", writer: str = "", path: str | None = None) -> None:
        self.file.write_text(f"""
            plugins = ["popd", "textfile"]
            state_dir = "{self.folder}/state"
            {top}
            [[source]]
            path = "{path or self.log}"
            [policy]
            {policy}
            [[writer]]
            use = "textfile"
            map = "{self.map}"
            {writer}
        """)

    def line(self, address: str, user: str = "ann", ago: float = 0.0, program: str = "popd") -> str:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime(time.time() - ago))
        return f"{stamp} mail {program}: login {user} from {address}"

    def login(self, address: str, user: str = "ann", ago: float = 0.0) -> None:
        with self.log.open("a") as log:
            log.write(self.line(address, user, ago) + "\n")

    def __call__(self, *args: str) -> tuple[int, str, str]:
        code = _cli.run(list(args))
        out, err = self._capture.readouterr()
        return code, out, err

    def keys(self) -> set[str]:
        return set(self.map.read_text().split()) if self.map.exists() else set()

    def start(self, *args: str) -> "subprocess.Popen[str]":
        environment = {**os.environ, "PYTHONPATH": str(self.folder / "site")}
        return subprocess.Popen(
            [sys.executable, "-m", "pop_before_smtp", *args],
            env=environment,
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def wait_for_line(self, process: "subprocess.Popen[str]", text: str) -> None:
        assert process.stderr
        for line in process.stderr:
            if text in line:
                return
        raise AssertionError(f"{text!r} was not logged")


@pytest.fixture
def site(tmp_path: Path, parser_plugin: str, writer_plugin: str, capfd: pytest.CaptureFixture[str]) -> Iterator[Site]:
    assert (parser_plugin, writer_plugin) == ("popd", "textfile")
    return Site(tmp_path, capfd)


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


# -- check


def test_check_prints_what_is_in_force(site: Site) -> None:
    code, out, _ = site("check", "-c", str(site.file))
    assert code == 0
    assert f'[[source]]\npath = "{site.log}"' in out
    assert "grace = 1800" in out
    code, out, _ = site("check", "-c", str(site.file), "--json")
    assert json.loads(out)["policy"]["max_leases"] == 100_000
    assert not site.map.exists()
    assert not (site.folder / "state").exists()


def test_what_check_prints_is_a_configuration(site: Site) -> None:
    _, out, _ = site("check", "-c", str(site.file))
    again = site.folder / "again.toml"
    again.write_text(out)
    assert site("check", "-c", str(again))[0] == 0


def break_key(site: Site) -> None:
    site.configure(top="grase = 5")


def break_type(site: Site) -> None:
    site.configure(policy="max_leases = 'many'")


def break_plugin(site: Site) -> None:
    site.configure()
    site.file.write_text(site.file.read_text().replace('"popd"', '"popd", "nosuch"'))


def break_log(site: Site) -> None:
    site.configure(path=f"{site.folder}/nosuch.log")


def break_log_folder(site: Site) -> None:
    site.configure(path=str(site.folder))


def break_map_folder(site: Site) -> None:
    site.map = site.folder / "nosuch" / "relay"
    site.configure()


def break_map_folder_rights(site: Site) -> None:
    site.map = site.folder / "open" / "relay"
    site.map.parent.mkdir()
    site.map.parent.chmod(0o777)
    site.configure()


def break_map_owner(site: Site) -> None:
    site.map.write_text("192.0.2.1\n")


def break_network(site: Site) -> None:
    site.configure(policy='exempt = ["10.0.0.0/33"]')


def break_state(site: Site) -> None:
    (site.folder / "state").write_text("a file")


@pytest.mark.parametrize(
    ("spoil", "key"),
    [
        (break_key, "grase"),
        (break_type, "policy.max_leases"),
        (break_plugin, "plugins[1]"),
        (break_log, "source[0].path"),
        (break_log_folder, "source[0].path"),
        (break_map_folder, "writer[0].map"),
        (break_map_folder_rights, "writer[0].map"),
        (break_map_owner, "writer[0].map"),
        (break_network, "policy.exempt[0]"),
        (break_state, "state_dir"),
    ],
)
@pytest.mark.parametrize("command", ["check", "run"])
def test_each_wrong_configuration_is_one_clear_line(
    site: Site, spoil: Callable[[Site], None], key: str, command: str
) -> None:
    spoil(site)
    before = site.map.read_text() if site.map.exists() else None
    code, _, err = site(command, "-c", str(site.file))
    complaints = [line for line in err.splitlines() if line.startswith("pop-before-smtp: ")]
    assert (code, len(complaints)) == (78, 1)
    assert complaints[0].startswith(f"pop-before-smtp: {key}: ")
    assert "Traceback" not in err
    assert (site.map.read_text() if site.map.exists() else None) == before


def test_wrong_usage_is_64(site: Site) -> None:
    for args in (["chek"], ["check", "--nosuch"], ["match"], ["--nosuch"]):
        code, _, err = site(*args)
        assert code == 64
        assert len(err.splitlines()) == 1


def test_help_and_version(site: Site) -> None:
    assert "explain" in site("--help")[1]
    assert site("--version") == (0, "pop-before-smtp 2.0.0\n", "")


# -- match and explain


def test_match_prints_a_json_object_per_event(site: Site) -> None:
    site.log.write_text(
        "2026-11-22T08:40:21.123456+00:00 mail popd: login ann from 203.0.113.7\n"
        "2026-11-22T08:40:22.5+00:00 mail other: login ann from 203.0.113.66\n"
        "Nov 22 garbage \xff\n"
        "2026-11-22T08:40:23+00:00 mail popd: login bob from 2001:DB8::7"
    )
    code, out, err = site("match", "--json", "--parser", "popd", "--kind", "login", str(site.log))
    assert code == 0
    assert [json.loads(line) for line in out.splitlines()] == [
        {
            "line": 1,
            "kind": "login",
            "address": "203.0.113.7",
            "user": "ann",
            "service": "pop3",
            "tls": None,
            "session": None,
            "time": "2026-11-22T08:40:21.123456+00:00",
            "parser": "popd",
        },
        {
            "line": 4,
            "kind": "login",
            "address": "2001:db8::7",
            "user": "bob",
            "service": "pop3",
            "tls": None,
            "session": None,
            "time": "2026-11-22T08:40:23.000000+00:00",
            "parser": "popd",
        },
    ]
    assert err.splitlines() == ["4 lines", "2 popd login"]


@given(
    text=st.text(st.characters(codec="utf-8"), max_size=5) | st.just("\udcff"),
    tls=st.sampled_from([None, True, False]),
    at=st.floats(0, 4e9),
)
def test_the_fast_json_is_the_plain_json(text: str, tls: bool | None, at: float) -> None:
    event = LoginEvent(kind=LOGIN, address="2001:db8::7", at=at, received=at, user=text, tls=tls, parser="popd")
    assert as_json_text(event, 7) == json.dumps(as_dict(event, 7))


def test_match_for_people_says_what_was_refused(site: Site) -> None:
    site.login("127.0.0.1")
    site.login("203.0.113.7", user="ann")
    code, out, err = site("match", "--parser", "popd", str(site.log))
    assert code == 0
    assert " login 203.0.113.7 ann pop3 - popd" in out
    assert "1 refused: loopback" in err


def test_match_shows_what_no_pattern_took(site: Site) -> None:
    site.login("203.0.113.7")
    site.log.write_text(site.log.read_text() + site.line("x y z") + "\n" + site.line("x", program="smtpd") + "\n")
    code, out, _ = site("match", "--unmatched", "--parser", "popd", str(site.log))
    assert code == 0
    assert [line.split(": ")[0] for line in out.splitlines()] == ["2"]


def test_match_of_an_unknown_parser_or_file(site: Site) -> None:
    code, _, err = site("match", "--parser", "klingon", str(site.log))
    assert code == 78
    assert '--parser: there is no "klingon"' in err
    code, _, err = site("match", "--parser", "popd", str(site.folder / "nosuch"))
    assert code == 1
    assert len(err.splitlines()) == 1


def test_match_reads_standard_input(site: Site) -> None:
    process = site.start("match", "--json", "--parser", "popd", "-")
    out, err = process.communicate(site.line("203.0.113.7") + "\n" + site.line("203.0.113.8"), timeout=DEADLINE)
    assert [json.loads(line)["line"] for line in out.splitlines()] == [1, 2]
    assert err.splitlines()[0] == "2 lines"


def test_explain_shows_each_step(site: Site) -> None:
    site.configure(policy='refuse = ["198.51.100.0/24"]', writer='services = ["imap"]')
    code, out, _ = site("explain", "-c", str(site.file), "--json", site.line("203.0.113.7"))
    found = json.loads(out)
    assert code == 0
    assert found["header"]["program"] == "popd"
    assert found["patterns"][0]["captured"] == {"user": "ann", "ip": "203.0.113.7"}
    assert found["verdict"] == "may relay"
    assert found["writers"] == {str(site.map): "no lease: service"}
    assert json.loads(site("explain", "-c", str(site.file), "--json", site.line("198.51.100.1"))[1])["verdict"] == (
        "refused: refused_network"
    )


@pytest.mark.parametrize(
    ("line", "verdict"),
    [
        ("rubbish", "no header of a known kind"),
        ("Nov 22 09:00:00 mail smtpd: login ann from 203.0.113.7", "no parser reads this program"),
        ("Nov 22 09:00:00 mail popd: logim ann from 203.0.113.7", "no pattern of this program matches"),
        ("Nov 22 09:00:00 mail popd: login ann from 127.0.0.1", "refused: loopback"),
    ],
)
def test_explain_says_why_not(site: Site, line: str, verdict: str) -> None:
    code, out, _ = site("explain", "-c", str(site.file), line)
    assert code == 0
    assert f"verdict:  {verdict}" in out


def test_control_characters_do_not_reach_the_terminal() -> None:
    assert printable("a\x1b[31m\x07\udcff") == "a\\x1b[31m\\x07\\udcff"


# -- run, list, purge


def test_run_list_and_a_clean_end(site: Site) -> None:
    daemon = site.start("run", "-c", str(site.file))
    site.wait_for_line(daemon, "startup log-scan complete")
    site.login("203.0.113.7")
    until(lambda: site.keys() == {"203.0.113.7"})
    until(lambda: len(json.loads(site("list", "-c", str(site.file), "--json")[1])) == 1)
    row = json.loads(site("list", "-c", str(site.file), "--json")[1])[0]
    assert (row["address"], row["user"], row["users"], row["service"]) == ("203.0.113.7", "ann", ["ann"], "pop3")
    assert 1700 < row["remaining"] <= 1800
    assert "203.0.113.7  ann   pop3" in site("list", "-c", str(site.file))[1]
    daemon.send_signal(signal.SIGTERM)
    _, log = daemon.communicate(timeout=DEADLINE)
    assert daemon.returncode == 0
    assert "caught SIGTERM -- exiting" in log
    assert site.keys() == set()
    assert json.loads(site("list", "-c", str(site.file), "--json")[1])[0]["address"] == "203.0.113.7"
    assert site("purge", "-c", str(site.file))[0] == 0
    assert site.keys() == set(), "purge must not bring back what a clean end has taken away"


def test_killed_and_purged(site: Site) -> None:
    site.configure(top='grace = "2s"')
    daemon = site.start("run", "-c", str(site.file))
    site.wait_for_line(daemon, "startup log-scan complete")
    assert site("purge", "-c", str(site.file))[0] == 0, "a running daemon is left alone"
    site.login("203.0.113.7")
    until(lambda: site.keys() == {"203.0.113.7"})
    time.sleep(0.3)  # the state is written every 200 ms
    daemon.kill()
    daemon.communicate(timeout=DEADLINE)
    assert site.keys() == {"203.0.113.7"}
    until(lambda: site("list", "-c", str(site.file), "--json")[1].strip() == "[]")
    assert site("purge", "-c", str(site.file))[0] == 0
    assert site.keys() == set()


def test_a_purge_that_cannot_read_the_state_ends_every_lease(site: Site) -> None:
    daemon = site.start("run", "-c", str(site.file))
    site.wait_for_line(daemon, "startup log-scan complete")
    site.login("203.0.113.7")
    until(lambda: site.keys() == {"203.0.113.7"})
    daemon.kill()
    daemon.communicate(timeout=DEADLINE)
    for file in (site.folder / "state").glob("state.sqlite*"):
        file.write_bytes(b"rubbish" * 1000)
    code, _, _ = site("purge", "-c", str(site.file))
    assert (code, site.keys()) == (0, set())


def test_sighup_takes_a_right_configuration_and_refuses_a_wrong_one(site: Site) -> None:
    daemon = site.start("run", "-c", str(site.file))
    site.wait_for_line(daemon, "startup log-scan complete")
    site.login("203.0.113.7")
    until(lambda: site.keys() == {"203.0.113.7"})
    site.configure(top="grase = 5")
    daemon.send_signal(signal.SIGHUP)
    site.wait_for_line(daemon, "SIGHUP: grase: unknown key")
    site.configure(policy='refuse = ["203.0.113.7"]')
    daemon.send_signal(signal.SIGHUP)
    until(lambda: site.keys() == set())
    site.login("203.0.113.8")
    until(lambda: site.keys() == {"203.0.113.8"})
    daemon.send_signal(signal.SIGINT)
    daemon.communicate(timeout=DEADLINE)
    assert daemon.returncode == 0


def test_standard_input_ends_and_so_do_the_leases(site: Site) -> None:
    site.configure(top="grace = 2", path="-")
    daemon = site.start("run", "-c", str(site.file))
    assert daemon.stdin
    daemon.stdin.write(site.line("203.0.113.7") + "\n")
    daemon.stdin.close()
    daemon.stdin = None
    until(lambda: site.keys() == {"203.0.113.7"})
    daemon.communicate(timeout=DEADLINE)
    assert daemon.returncode == 0
    assert site.keys() == set()


def test_the_sandbox(site: Site) -> None:
    folder = site.folder / "sandbox"
    daemon = site.start("run", "--sandbox", str(folder))
    daemon.send_signal(signal.SIGTERM)
    _, err = daemon.communicate(timeout=DEADLINE)
    assert "In another terminal" in err or daemon.returncode in (0, -signal.SIGTERM)


# -- the original's options


def legacy(site: Site, *args: str) -> list[str]:
    return ["--config", str(site.file), *args]


def test_the_original_options_run_a_daemon(site: Site) -> None:
    pidfile, log = site.folder / "pid", site.folder / "own.log"
    process = site.start(*legacy(site, f"--daemon={pidfile}", f"--logto={log}", "--grace=600"))
    _, err = process.communicate(timeout=DEADLINE)
    assert (process.returncode, err) == (0, "")
    pid = int(pidfile.read_text())
    try:
        assert site.keys() == set()
        assert site.map.exists(), "the parent has waited until the child was ready"
        site.login("203.0.113.7")
        until(lambda: site.keys() == {"203.0.113.7"})
        assert "added 203.0.113.7 to DB" in log.read_text()
        log.rename(site.folder / "own.log.1")
        os.kill(pid, signal.SIGHUP)
        until(log.exists)
    finally:
        os.kill(pid, signal.SIGTERM)
    until(lambda: not pidfile.exists())
    assert "caught SIGTERM -- exiting" in log.read_text()


def test_a_failed_start_in_the_background_shows(site: Site) -> None:
    site.map.write_text("192.0.2.1\n")
    process = site.start(*legacy(site, f"--daemon={site.folder}/pid"))
    _, err = process.communicate(timeout=DEADLINE)
    assert process.returncode == 78
    assert "was not written by us" in err
    assert not (site.folder / "pid").exists()


def test_reprocess_touches_nothing_and_says_so(site: Site) -> None:
    site.login("203.0.113.7", ago=90000)
    site.login("203.0.113.8", ago=80000)
    code, _, err = site(*legacy(site, "--reprocess"))
    assert code == 0
    texts = [line.split(" ", 3)[3] for line in err.replace("  ", " ").splitlines()]
    assert texts == [
        "--reprocess implies --nowrite: no map is touched",
        "added 203.0.113.7 to DB",
        "removed 203.0.113.7 from DB",
        "added 203.0.113.8 to DB",
        "------ reached end of log file ------",
    ]
    assert not site.map.exists()


def test_a_dry_run_says_what_it_would_do(site: Site) -> None:
    site.configure(path="-", policy='exempt = ["198.51.100.0/24"]', top="grace = 3")
    process = site.start(*legacy(site, "--nowrite", "--debug"))
    lines = [site.line(address) for address in ("203.0.113.7", "198.51.100.1")]
    out, _ = process.communicate("\n".join(lines) + "\n", timeout=DEADLINE)
    texts = [line[16:] for line in out.splitlines()]
    assert "added 203.0.113.7 to DB (not written)" in texts
    assert "removed 203.0.113.7 from DB (not written)" in texts
    assert "found ip=203.0.113.7 user=ann service=pop3" in texts
    assert "ignoring ip=198.51.100.1: exempt" in texts
    assert not site.map.exists()


def test_list_dumpconfig_and_version(site: Site) -> None:
    code, out, _ = site(*legacy(site, "--version", "--dumpconfig", "--list", "--grace=60", f"--watchlog={site.log}"))
    assert code == 0
    assert out.startswith("pop-before-smtp 2.0.0\n")
    assert "grace = 60" in out
    assert "The database holds 0 IPs:" in out


def test_a_map_of_anybody_is_listed_read_only(site: Site) -> None:
    db = pytest.importorskip("berkeleydb.db")
    file = site.folder / "old.db"
    base = db.DB()
    base.open(str(file), dbtype=db.DB_HASH, flags=db.DB_CREATE)
    base.put(b"192.0.2.9\0", b"ok\0")
    base.put(b"2001:db8::9", b"ok")
    base.close()
    before = file.read_bytes()
    code, out, _ = site(*legacy(site, "--list", f"--dbfile={site.folder}/old"))
    assert (code, out) == (0, "The database holds 2 IPs:\n192.0.2.9\n2001:db8::9\n")
    assert file.read_bytes() == before
    code, _, err = site(*legacy(site, "--list", f"--dbfile={site.folder}/nosuch"))
    assert (code, err.count("\n")) == (78, 1)
    assert not (site.folder / "nosuch.db").exists()


def test_a_perl_configuration_gets_one_line(site: Site) -> None:
    perl = site.folder / "pop-before-smtp-conf.pl"
    perl.write_text("use strict;\n$pat = '^(... .. ..:..:..) x';\n1;\n")
    code, _, err = site(f"--config={perl}")
    assert code == 78
    assert err.count("\n") == 1
    assert "docs/migration.md" in err


def test_spans_of_time() -> None:
    assert [span(seconds) for seconds in (0, 59, 61, 3600, -5)] == ["0s", "59s", "1m01s", "1h00m", "0s"]


def test_plugins_are_listed_with_their_problems(site: Site, install: Callable[..., str]) -> None:
    install("broken", "1 / 0")
    code, out, _ = site("plugins", "--json")
    rows: dict[str, Any] = {row["name"]: row for row in json.loads(out)}
    assert code == 1
    assert rows["popd"]["parsers"] == ["popd"]
    assert "ZeroDivisionError" in rows["broken"]["problem"]
    assert "textfile" in site("plugins")[1]
