"""Dovecot, rsyslog, the daemon and Postfix with four kinds of map: who may relay, and for how long.

Every login opens the relay through an lmdb, a cdb, a hash and a btree map alike, so each test asks all four smtpds.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator

import pytest
from clients import LOCAL, asked, imap, imap_plain, pop, rcpt, smtp
from daemon import GRACE, Daemon
from lab import Lab, eventually
from servers import MYNETWORKS_CLIENTS, OTHER_LOGS, PORTS, STATE, SUFFIXES, start_dovecot

pytestmark = pytest.mark.system

Address = Callable[[int], str]
LATE = 2.5
DENIED = {554}
PERMITTED = {250}


@pytest.fixture(scope="module")
def only_daemon(dovecot_lab: Lab) -> Iterator[Daemon]:
    """Give the one daemon that keeps the maps of all four smtpds."""
    with Daemon(dovecot_lab, "dovecot") as daemon:
        yield daemon


@pytest.fixture
def daemon(only_daemon: Daemon) -> Daemon:
    """Give the daemon, running, whatever the test before did to it."""
    if not only_daemon.running:
        only_daemon.start()
    return only_daemon


@pytest.fixture
def lab(dovecot_lab: Lab) -> Lab:
    return dovecot_lab


def codes(lab: Lab, client: str, recipient: str = "someone@foreign.example") -> set[int]:
    """Return the replies of the four smtpds."""
    return {asked(lab, client, port, recipient) for port in PORTS.values()}


def opens(lab: Lab, client: str) -> None:
    """Wait until a client may relay through all four."""
    eventually(lambda: codes(lab, client) == PERMITTED)


def closes(lab: Lab, client: str, login: float) -> None:
    """Wait until a client may relay no more: ``GRACE`` after its login, and a pause between two rewrites of a map."""
    eventually(lambda: codes(lab, client) == DENIED, within=GRACE + LATE + 1)
    assert GRACE - 0.1 <= time.monotonic() - login <= GRACE + LATE


def sleep_until(moment: float) -> None:
    time.sleep(max(0.0, moment - time.monotonic()))


def test_login_opens_the_relay_and_the_end_of_its_lease_closes_it(lab: Lab, daemon: Daemon, address: Address) -> None:
    stranger = address(4)
    logins = [
        (imap, address(4), ""),
        (pop, address(6), ""),
        (imap, address(6), "starttls"),
        (pop, address(4), "implicit"),
    ]
    for _, client, _ in logins:
        assert codes(lab, client) == DENIED
    start = time.monotonic()
    for login, client, tls in logins:
        assert login(lab, client, tls=tls)
    for _, client, _ in logins:
        opens(lab, client)
    assert codes(lab, stranger) == DENIED
    assert {client for _, client, _ in logins} == daemon.mapped("lmdb") == daemon.mapped("btree")
    for _, client, _ in logins:
        closes(lab, client, start)


def test_lease_ends_in_time_on_a_silent_log(lab: Lab, daemon: Daemon, address: Address) -> None:
    client = address(4)
    login = time.monotonic()
    assert imap(lab, client)
    eventually(lambda: daemon.holding(client) == set(PORTS))
    sleep_until(login + GRACE - 0.5)
    assert daemon.holding(client) == set(PORTS)
    eventually(lambda: not daemon.holding(client))
    assert time.monotonic() - login <= GRACE + 1.2


def test_second_login_renews(lab: Lab, daemon: Daemon, address: Address) -> None:
    client = address(6)
    assert imap(lab, client)
    opens(lab, client)
    time.sleep(GRACE / 2)
    login = time.monotonic()
    assert pop(lab, client)
    closes(lab, client, login)
    assert client not in daemon.mapped()


def test_open_session_sees_the_lmdb_map_change(lab: Lab, daemon: Daemon, address: Address) -> None:
    client = address(4)
    with smtp(lab, client, PORTS["lmdb"]) as session:
        assert rcpt(session) == 554
        assert imap(lab, client)
        eventually(lambda: rcpt(session) == 250)
        eventually(lambda: rcpt(session) == 554, within=GRACE + 2)
    assert client not in daemon.mapped()


def test_failed_and_forged_logins_open_nothing(lab: Lab, daemon: Daemon, address: Address) -> None:
    client, forged, honest = address(4), address(4), address(6)
    names = [
        "ann",
        f"x>, method=PLAIN, rip={forged}, lip=198.51.100.1, mpid=7, session=<abc",
        f"x, rip={forged}, lip=198.51.100.1, mpid=7",
        f"> imap-login: Login: user=<ann>, method=PLAIN, rip={forged}, lip=198.51.100.1, mpid=7",
    ]
    lines = (
        f"x\nNov 22 09:00:00 mx dovecot: imap-login: Login: user=<ann>, method=PLAIN, rip={forged}, lip=198.51.100.1"
    )
    for user in names:
        assert not imap(lab, client, user, "wrong")
        assert not pop(lab, client, user.replace(" ", ""), "wrong")
    for user in [*names, lines]:
        assert not imap_plain(lab, client, user, "wrong")
    assert imap(lab, honest)  # everything before it has been read when this one is there
    opens(lab, honest)
    assert codes(lab, client) == codes(lab, forged) == DENIED
    for user in [*names[1:], lines]:  # and where the password is right, the forged address gains nothing either
        imap_plain(lab, client, user, "pw")
    second = address(6)
    assert imap(lab, second)
    opens(lab, second)
    assert codes(lab, forged) == DENIED
    assert forged not in daemon.mapped()


def test_client_of_mynetworks_gets_no_entry(lab: Lab, daemon: Daemon, address: Address) -> None:
    other = address(4)
    for client in (*MYNETWORKS_CLIENTS, other):
        assert imap(lab, client)
    opens(lab, other)
    assert daemon.mapped().isdisjoint(MYNETWORKS_CLIENTS)
    leases = str(daemon.leases())
    assert other in leases
    assert not any(client in leases for client in MYNETWORKS_CLIENTS)
    assert all(codes(lab, client) == PERMITTED for client in MYNETWORKS_CLIENTS)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["SIGTERM", "SIGKILL"])
def test_restart_keeps_the_lease_with_its_true_remaining_time(
    lab: Lab, daemon: Daemon, address: Address, number: signal.Signals
) -> None:
    client = address(4)
    login = time.monotonic()
    assert imap(lab, client)
    opens(lab, client)
    code = daemon.stop(number)
    if number == signal.SIGTERM:
        assert code == 0
        assert codes(lab, client) == DENIED  # on_exit = "clear"
    daemon.start()
    assert time.monotonic() < login + GRACE, "too slow a machine to tell"
    assert codes(lab, client) == PERMITTED  # READY means that the maps are right
    closes(lab, client, login)


def test_purge_ends_the_leases_of_a_killed_daemon(lab: Lab, daemon: Daemon, address: Address) -> None:
    early, late = address(4), address(6)
    login = time.monotonic()
    assert imap(lab, early)
    opens(lab, early)
    sleep_until(login + GRACE - 1.5)
    assert imap(lab, late)
    eventually(lambda: asked(lab, late) == 250)
    sleep_until(login + GRACE - 0.9)  # by now the state knows it too
    daemon.stop(signal.SIGKILL)
    sleep_until(login + GRACE + 0.5)
    assert codes(lab, early) == PERMITTED  # nobody is there to end it
    daemon.command("purge")
    assert codes(lab, early) == DENIED
    assert asked(lab, late) == 250
    sleep_until(login + 2 * GRACE - 1)
    daemon.command("purge")
    assert codes(lab, late) == DENIED


def test_local_mail_is_taken_with_the_maps_gone(lab: Lab, daemon: Daemon, address: Address) -> None:
    client = address(4)
    daemon.stop()
    lab.sh("rm " + " ".join(f"{path}.{SUFFIXES[kind]}" for kind, path in daemon.maps.items()) + "; postfix reload")
    assert codes(lab, client, LOCAL) == {250}
    assert codes(lab, client) == {451}
    daemon.start()
    assert imap(lab, client)
    opens(lab, client)


@pytest.mark.usefixtures("daemon")
def test_log_rotation_loses_no_login(lab: Lab, address: Address) -> None:
    before, between, after = address(4), address(6), address(4)
    assert imap(lab, before)
    lab.sh("mv /var/log/mail.log /var/log/mail.log.1; install -m 640 -g adm /dev/null /var/log/mail.log")
    assert imap(lab, between)  # into the renamed file, which rsyslog still holds open
    lab.sh("kill -HUP $(cat /run/rsyslogd.pid)")
    eventually(lambda: imap(lab, after) and lab.path("/var/log/mail.log").stat().st_size)
    for client in (before, between, after):
        opens(lab, client)


def test_truncated_log_loses_no_login(lab: Lab, daemon: Daemon, address: Address) -> None:
    before, after = address(4), address(6)
    assert imap(lab, before)
    opens(lab, before)
    lab.sh("cp -p /var/log/mail.log /var/log/mail.log.1; truncate -s 0 /var/log/mail.log")
    assert imap(lab, after)
    opens(lab, after)
    assert daemon.running


@pytest.mark.parametrize("log", OTHER_LOGS)
def test_other_syslog_layouts(lab: Lab, address: Address, log: str) -> None:
    client = address(4)
    with Daemon(lab, "dovecot", log=log, name=log[-7:], kinds=("cdb",)) as daemon:
        assert imap(lab, client)
        eventually(lambda: daemon.holding(client))
        (lease,) = [lease for lease in daemon.leases() if lease["address"] == client]
        assert lease["user"] == "ann"
        assert 0 < lease["remaining"] <= GRACE


def test_idle_daemon_sleeps(daemon: Daemon) -> None:
    eventually(lambda: not daemon.mapped(), within=2 * GRACE)
    time.sleep(1)
    before = daemon.effort()
    time.sleep(6)
    seconds, wakes = (now - then for now, then in zip(daemon.effort(), before, strict=True))
    assert seconds <= 0.01
    assert wakes <= 6


@pytest.mark.parametrize("kind", PORTS)
def test_map_of_somebody_else_stays_as_it_is(lab: Lab, kind: str) -> None:
    foreign = f"{STATE}/foreign-{kind}"
    lab.sh(f"echo 192.0.2.1 OK > {foreign}; postmap {kind}:{foreign}")
    file = lab.path(f"{foreign}.{SUFFIXES[kind]}")
    before = file.read_bytes(), file.stat().st_mtime_ns
    daemon = Daemon(lab, "dovecot", name=f"foreign-{kind}", kinds=(kind,))
    for command in ("check", "run"):
        done = daemon.command(command, check=False)
        assert done.returncode == 78, done
        assert "writer[0].map" in done.stderr
        assert foreign in done.stderr
        assert "Traceback" not in done.stderr
    assert (file.read_bytes(), file.stat().st_mtime_ns) == before


def test_dovecots_own_log_file(lab: Lab, address: Address) -> None:
    client = address(6)
    log = "/var/log/dovecot.log"
    lab.sh(f"touch {log}; doveadm stop")
    start_dovecot(lab, f"log_path = {log}")
    try:
        with Daemon(lab, "dovecot", log=log, name="own-log", kinds=("cdb",)) as daemon:
            assert imap(lab, client)
            eventually(lambda: daemon.holding(client))
            eventually(lambda: not daemon.holding(client), within=GRACE + 1.5)
    finally:
        lab.sh("doveadm stop")
        start_dovecot(lab)
