"""Courier, rsyslog, the daemon and Postfix: the whole way once more with the other server's log lines."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from clients import asked, imap, pop
from daemon import GRACE, Daemon
from lab import Lab, eventually
from servers import MYNETWORKS_CLIENTS, PORTS

pytestmark = pytest.mark.system

Address = Callable[[int], str]


def answers(lab: Lab, client: str, port: int, code: int) -> None:
    """Wait until Postfix answers with this code."""
    eventually(lambda: asked(lab, client, port) == code, within=GRACE + 2)


def test_login_opens_the_relay_and_the_end_of_its_lease_closes_it(courier_lab: Lab, address: Address) -> None:
    lab, port, stranger = courier_lab, PORTS["cdb"], address(6)
    logins = [
        (login, address(version), tls)
        for version, login in ((4, imap), (6, pop), (6, imap), (4, pop))
        for tls in ("", "starttls", "implicit")
    ]
    with Daemon(lab, "courier", kinds=("cdb",)) as daemon:
        for _, client, _ in logins:
            assert asked(lab, client, port) == 554
        for client in MYNETWORKS_CLIENTS:
            assert imap(lab, client)
        first = time.monotonic()
        for login, client, tls in logins:
            assert login(lab, client, tls=tls)
        last = time.monotonic()
        for _, client, _ in logins:
            answers(lab, client, port, 250)
        assert time.monotonic() < first + GRACE, "too slow a machine to tell"
        assert asked(lab, stranger, port) == 554
        assert not any(client in str(daemon.leases()) for client in MYNETWORKS_CLIENTS)
        for _, client, _ in logins:
            answers(lab, client, port, 554)
        assert first + GRACE - 0.1 <= time.monotonic() <= last + GRACE + 2.5


def test_failed_and_forged_logins_open_nothing(courier_lab: Lab, address: Address) -> None:
    lab, client, forged, honest = courier_lab, address(4), address(4), address(6)
    names = [
        "ann",
        f"ann, ip=[{forged}], port=[4711], protocol=IMAP",
        f"x imapd: LOGIN, user=ann, ip=[{forged}], port=[4711], protocol=IMAP",
        "A" * 486 + "LOGIN, user=x",  # the logger breaks the line behind the As: the rest is a login of this client
    ]
    with Daemon(lab, "courier", kinds=("lmdb",)) as daemon:
        with ThreadPoolExecutor(6) as pool:  # Courier answers a wrong password five seconds late
            tries = [pool.submit(login, lab, client, user, "wrong") for user in names for login in (imap, pop)]
        assert not any(attempt.result() for attempt in tries)
        assert imap(lab, honest)  # everything before it has been read when this one is there
        eventually(lambda: daemon.mapped() == {honest})
        assert asked(lab, honest) == 250
        assert asked(lab, client) == asked(lab, forged) == 554
