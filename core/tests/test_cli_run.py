"""The commands that run a daemon or clean up after one, and the options of the original."""

import json
import os
import signal
import subprocess
import time

import pytest
from playground import DEADLINE, Site, until

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


def test_a_map_that_cannot_be_opened_keeps_no_other_from_being_purged(site: Site) -> None:
    daemon = site.start("run", "-c", str(site.file))
    site.wait_for_line(daemon, "startup log-scan complete")
    site.login("203.0.113.7")
    until(lambda: site.keys() == {"203.0.113.7"})
    daemon.kill()
    daemon.communicate(timeout=DEADLINE)
    broken = f'[[writer]]\nuse = "textfile"\nmap = "{site.folder}/other"\ndepth = 0\n'
    site.file.write_text(site.file.read_text().replace("[[writer]]", f"{broken}[[writer]]") + 'users = ["nobody"]\n')
    code, _, err = site("purge", "-c", str(site.file))
    assert (code, site.keys()) == (1, set())
    assert "writer[0].depth: must be 1 or more" in err


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
    folder = site.folder / "sand box"
    daemon = site.start("run", "--sandbox", str(folder))
    assert daemon.stderr
    said = [next(daemon.stderr) for _ in range(3)]
    site.wait_for_line(daemon, "startup log-scan complete")
    subprocess.run(["/bin/sh", "-c", said[1]], check=True)
    site.wait_for_line(daemon, "added 203.0.113.7 to DB")
    config = said[2].partition(" list -c ")[2].strip().strip("'")
    until(lambda: "203.0.113.7  ann   imap" in site("list", "-c", config)[1])
    daemon.send_signal(signal.SIGTERM)
    daemon.communicate(timeout=DEADLINE)
    assert daemon.returncode == 0


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
