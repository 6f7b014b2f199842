"""Courier's mail server with the configuration on docs/mta-courier.md: who may relay, and for how long."""

from __future__ import annotations

import datetime as dt
import re
import signal
import time
from collections.abc import Callable, Iterator

import pytest
from clients import LOCAL, asked, rcpt, smtp
from daemon import GRACE, Daemon
from lab import CHECKOUT, Lab, eventually
from servers import COURIER_MTA, STATE, start_courier_mta

pytestmark = pytest.mark.system

Address = Callable[[int], str]
PAGE = (CHECKOUT / "docs/mta-courier.md").read_text()
CONFIG, DROP_IN, INSIDE, _ = re.findall(r"^```\w*\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
ACCESS = "/etc/courier/smtpaccess"
OURS = f"{ACCESS}/pop-before-smtp"
DENIED, PERMITTED = 513, 250
NETWORKS = ("203.0.113.200", "2001:db8:9::200")
"""Clients that the administrator's own lines let relay."""
ALLOWED = "203.0.113.203"
"""A client that has a line without the right to relay."""
LINES = f"""{ALLOWED}\tallow
203.0.113.200\tallow,RELAYCLIENT
:2001:0db8:0009:0000:0000:0000:0000:0200\tallow,RELAYCLIENT
"""


class CourierDaemon(Daemon):
    """A daemon with the configuration of the page."""

    def __init__(self, lab: Lab) -> None:
        super().__init__(lab, "courier", name="courier-mta")
        lab.write("/var/log/mail.log", "")
        lab.write(self.config, f'grace = {GRACE:.0f}\nstate_dir = "{STATE}"\n{CONFIG}')


@pytest.fixture(scope="module")
def lab(new_lab: type[Lab]) -> Iterator[Lab]:
    with new_lab(*COURIER_MTA) as lab:
        lab.write(f"{ACCESS}/administrator", LINES)
        start_courier_mta(lab)
        yield lab


@pytest.fixture(scope="module")
def only_daemon(lab: Lab) -> Iterator[Daemon]:
    with CourierDaemon(lab) as daemon:
        yield daemon


@pytest.fixture
def daemon(only_daemon: Daemon) -> Daemon:
    """Give the daemon, running, whatever the test before did to it."""
    if not only_daemon.running:
        only_daemon.start()
    return only_daemon


def logged_in(lab: Lab, *clients: str) -> float:
    """Write what Courier writes when these clients log in; return when."""
    stamp = dt.datetime.now(dt.UTC).isoformat()
    with lab.path("/var/log/mail.log").open("a") as log:
        for client in clients:
            log.write(f"{stamp} mx imapd: LOGIN, user=ann, ip=[{client}], port=[4711], protocol=IMAP\n")
    return time.monotonic()


def answers(lab: Lab, client: str, code: int) -> None:
    """Wait until Courier answers with this code."""
    eventually(lambda: asked(lab, client) == code)


def listener(lab: Lab) -> str:
    return lab.sh("cat /run/courier/esmtpd.pid")


def test_login_opens_the_relay_and_the_end_of_its_lease_closes_it(lab: Lab, daemon: Daemon, address: Address) -> None:
    clients, stranger = [address(4), address(6)], address(4)
    assert daemon.running
    before = listener(lab)
    assert [asked(lab, client) for client in clients] == [DENIED] * 2
    login = logged_in(lab, *clients)
    eventually(lambda: [asked(lab, client) for client in clients] == [PERMITTED] * 2)
    assert asked(lab, stranger) == DENIED
    assert time.monotonic() < login + GRACE, "too slow a machine to tell"
    eventually(lambda: [asked(lab, client) for client in clients] == [DENIED] * 2, within=GRACE + 3)
    assert GRACE - 0.1 <= time.monotonic() - login <= GRACE + 3.5
    assert listener(lab) == before


@pytest.mark.usefixtures("daemon")
def test_an_open_session_keeps_its_answer(lab: Lab, address: Address) -> None:
    client = address(6)
    with smtp(lab, client) as session:
        assert rcpt(session) == DENIED
        logged_in(lab, client)
        eventually(lambda: asked(lab, client) == PERMITTED)
        assert rcpt(session) == DENIED


def test_lines_of_the_administrator_count(lab: Lab, daemon: Daemon, address: Address) -> None:
    other = address(4)
    logged_in(lab, *NETWORKS, ALLOWED, other)
    eventually(lambda: asked(lab, other) == PERMITTED)
    assert [asked(lab, client) for client in NETWORKS] == [PERMITTED] * 2
    assert not {lease["address"] for lease in daemon.leases()}.intersection(NETWORKS)
    assert asked(lab, ALLOWED) == DENIED
    assert lab.sh(INSIDE).splitlines()[-1] == "0"
    assert f"{other}\t" in lab.sh(INSIDE)


def test_what_cannot_be_compiled_is_mended(lab: Lab, daemon: Daemon, address: Address) -> None:
    first, second = address(4), address(4)
    logged_in(lab, first)
    eventually(lambda: asked(lab, first) == PERMITTED)
    lab.write(f"{ACCESS}/wrong", "198.51.100.9\tdeny\n198.51.100.9\tallow\n")
    try:
        logged_in(lab, second)
        eventually(lambda: "duplicate" in daemon.log())
        assert (asked(lab, first), asked(lab, second)) == (PERMITTED, DENIED)  # as it was
    finally:
        lab.sh(f"rm {ACCESS}/wrong")
    eventually(lambda: logged_in(lab, second) and asked(lab, second) == PERMITTED, within=15, every=0.2)


def test_purge_ends_the_leases_of_a_killed_daemon(lab: Lab, daemon: Daemon, address: Address) -> None:
    client = address(4)
    login = logged_in(lab, client)
    eventually(lambda: asked(lab, client) == PERMITTED)
    time.sleep(max(0.0, login + 1.5 - time.monotonic()))  # by then the state knows of it, too
    daemon.stop(signal.SIGKILL)
    # what a writer leaves that was killed a moment earlier grants nothing
    lab.write(f"{ACCESS}/.pop-before-smtp.new~", "203.0.113\tallow,RELAYCLIENT\n")
    time.sleep(max(0.0, login + GRACE + 0.5 - time.monotonic()))
    assert asked(lab, client) == PERMITTED  # nobody is there to end it
    daemon.command("purge")
    assert asked(lab, client) == DENIED
    assert lab.path(OURS).read_text() == ""


def test_local_mail_does_not_depend_on_our_file(lab: Lab, daemon: Daemon, address: Address) -> None:
    client = address(4)
    usual = asked(lab, client, recipient=LOCAL)
    assert usual != DENIED
    daemon.stop()
    lab.sh(f"rm {OURS}; makesmtpaccess")
    assert (asked(lab, client, recipient=LOCAL), asked(lab, client)) == (usual, DENIED)
    daemon.start()
    logged_in(lab, client)
    eventually(lambda: asked(lab, client) == PERMITTED)


def test_the_drop_in_lets_the_restricted_unit_compile(lab: Lab, daemon: Daemon) -> None:
    daemon.stop()
    settings = dict(line.split("=", 1) for line in DROP_IN.splitlines() if "=" in line)
    script = "mount --bind / /; mount -o remount,bind,ro /; mount --bind /run /run; mount -o remount,bind,ro /run\n"
    for path in settings["ReadWritePaths"].split():
        script += f"mount --bind {path} {path}; mount -o remount,bind,rw {path}\n"
    kept = settings["CapabilityBoundingSet"].removeprefix("CAP_").lower()
    script += f"exec setpriv --no-new-privs --inh-caps -all --bounding-set -all,+{kept} makesmtpaccess"
    client = "203.0.113.210"
    for line in (f"{client}\tallow,RELAYCLIENT\n", ""):
        lab.write(OURS, line)
        assert lab.run("unshare", "--mount", "sh", "-euc", script).stderr == ""
        answers(lab, client, PERMITTED if line else DENIED)
