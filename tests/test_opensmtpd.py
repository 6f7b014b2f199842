"""OpenSMTPD with the configuration on docs/mta-opensmtpd.md: who may relay, and for how long."""

from __future__ import annotations

import datetime as dt
import re
import signal
import time
from collections.abc import Callable, Iterator

import pytest
from clients import LOCAL, asked, rcpt, smtp
from daemon import GRACE, PROGRAM, Daemon
from lab import CHECKOUT, Lab, eventually
from servers import OPENSMTPD, STATE, opensmtpd_with, start_opensmtpd

pytestmark = pytest.mark.system

Address = Callable[[int], str]
PAGE = (CHECKOUT / "docs/mta-opensmtpd.md").read_text()
CONFIG, RULES, DROP_IN, INSIDE = re.findall(r"^```\w*\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)[:4]
FRIEND = "203.0.113.201"
"""A client that may relay without a login."""
PLACEHOLDER = "127.0.0.1\n"


class OpensmtpdDaemon(Daemon):
    """A daemon with the configuration of the page."""

    def __init__(self, lab: Lab) -> None:
        super().__init__(lab, "dovecot", name="opensmtpd")
        lab.write("/var/log/mail.log", "")
        lab.write(self.config, f'grace = {GRACE:.0f}\nstate_dir = "{STATE}/state"\n{CONFIG}')


@pytest.fixture(scope="module")
def lab(new_lab: type[Lab]) -> Iterator[Lab]:
    """Give a lab with OpenSMTPD, not running: the file of its table is not there yet."""
    with new_lab(*OPENSMTPD) as lab:
        lab.sh(f"mkdir -p -m 755 {STATE}")
        yield lab


@pytest.fixture(scope="module")
def only_daemon(lab: Lab) -> Iterator[Daemon]:
    """Start the daemon, and then what reads its table."""
    lab.write("/etc/smtpd.conf", opensmtpd_with(f'{RULES}match from src {FRIEND} for any action "relay"\n'))
    with OpensmtpdDaemon(lab) as daemon:
        start_opensmtpd(lab)
        yield daemon


@pytest.fixture
def daemon(only_daemon: Daemon) -> Daemon:
    """Give the daemon, running, whatever the test before did to it."""
    if not only_daemon.running:
        only_daemon.start()
    return only_daemon


def logged_in(lab: Lab, *clients: str) -> float:
    """Write what Dovecot writes when these clients log in; return when."""
    stamp = dt.datetime.now(dt.UTC).isoformat()
    with lab.path("/var/log/mail.log").open("a") as log:
        for client in clients:
            log.write(
                f"{stamp} mx dovecot: imap-login: Login: user=<ann>, method=PLAIN, rip={client}, lip=198.51.100.1\n"
            )
    return time.monotonic()


def table(lab: Lab) -> str:
    return lab.path(f"{STATE}/hosts").read_text()


def test_login_opens_the_relay_and_the_end_of_its_lease_closes_it(lab: Lab, daemon: Daemon, address: Address) -> None:
    """Also in a session that is open all the time."""
    clients, stranger = [address(4), address(6)], address(4)
    assert daemon.running
    with smtp(lab, clients[0]) as session:
        assert [rcpt(session), asked(lab, clients[1]), asked(lab, stranger), asked(lab, FRIEND)] == [550, 550, 550, 250]
        login = logged_in(lab, *clients, FRIEND)
        eventually(lambda: [rcpt(session), asked(lab, clients[1])] == [250, 250])
        assert asked(lab, stranger) == 550
        assert table(lab) == PLACEHOLDER + "".join(f"{client}\n" for client in sorted(clients))
        assert time.monotonic() < login + GRACE, "too slow a machine to tell"
        eventually(lambda: [rcpt(session), asked(lab, clients[1])] == [550, 550], within=GRACE + 3)
    assert GRACE - 0.1 <= time.monotonic() - login <= GRACE + 3


def test_a_restart_keeps_the_lease(lab: Lab, daemon: Daemon, address: Address) -> None:
    client = address(6)
    login = logged_in(lab, client)
    eventually(lambda: asked(lab, client) == 250)
    daemon.stop()
    assert table(lab) == PLACEHOLDER
    assert asked(lab, client) == 550
    daemon.start()
    assert time.monotonic() < login + GRACE, "too slow a machine to tell"
    assert asked(lab, client) == 250


def test_purge_ends_the_leases_of_a_killed_daemon(lab: Lab, daemon: Daemon, address: Address) -> None:
    """As the purge unit runs it with the drop-in of the page: a root without capabilities or new privileges."""
    client = address(4)
    login = logged_in(lab, client)
    eventually(lambda: asked(lab, client) == 250)
    time.sleep(0.5)  # by now the state knows it too
    daemon.stop(signal.SIGKILL)
    assert time.monotonic() < login + GRACE, "too slow a machine to tell"
    time.sleep(max(0.0, login + GRACE + 0.2 - time.monotonic()))
    assert asked(lab, client) == 250  # nobody is there to end it
    keys = dict(re.findall(r"^(\w+)=(\w+)$", DROP_IN, re.MULTILINE))
    unit = ["setpriv", f"--reuid={keys['User']}", f"--regid={keys['Group']}", "--clear-groups", "--no-new-privs"]
    unit += ["--bounding-set=-all", "--inh-caps=-all"]
    lab.run(*unit, PROGRAM, "purge", "-c", daemon.config)
    assert asked(lab, client) == 550
    assert table(lab) == PLACEHOLDER


def test_smtpctl_that_fails_is_tried_again(lab: Lab, daemon: Daemon, address: Address) -> None:
    """Nobody relays longer for it than until it works again, and smtpd is not restarted."""
    client = address(4)
    logged_in(lab, client)
    eventually(lambda: asked(lab, client) == 250)
    lab.sh("mv /usr/sbin/smtpctl /usr/sbin/smtpctl.away")
    try:
        eventually(lambda: "smtpctl is not installed; trying again" in daemon.log(), within=GRACE + 3)
        assert table(lab) == PLACEHOLDER
        assert daemon.running
    finally:
        lab.sh("mv /usr/sbin/smtpctl.away /usr/sbin/smtpctl")
    eventually(lambda: asked(lab, client) == 550, within=10)


def test_the_tests_on_the_page(lab: Lab, daemon: Daemon) -> None:
    assert daemon.running
    eventually(lambda: table(lab) == PLACEHOLDER, within=GRACE + 3)
    count, check, update = INSIDE.splitlines()
    assert lab.run("sh", "-c", count, check=False).stdout == "0\n"
    lab.sh(check)
    assert lab.sh(update) == "command succeeded\n"


def test_check_beside_opensmtpd_has_nothing_to_say(lab: Lab, daemon: Daemon) -> None:
    assert daemon.running
    done = lab.run(PROGRAM, "check", "-c", CHECKOUT / "examples/opensmtpd.toml", check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr


def test_smtpd_can_be_started_and_stopped_while_the_daemon_runs(lab: Lab, daemon: Daemon, address: Address) -> None:
    """Without an smtpd the file alone counts, and nothing is wrong; smtpd reads it when it starts."""
    client = address(6)
    assert asked(lab, client, recipient=LOCAL) == 250
    lab.sh("kill $(cat /var/run/smtpd.pid); while pgrep -x smtpd >/dev/null; do sleep 0.05; done")
    before = daemon.log()
    logged_in(lab, client)
    eventually(lambda: f"added {client} to DB" in daemon.log())
    assert client in table(lab)
    start_opensmtpd(lab)
    assert asked(lab, client) == 250
    assert "cannot" not in daemon.log().removeprefix(before)
    assert "old table" not in daemon.log().removeprefix(before)
