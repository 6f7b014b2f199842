"""sendmail with each configuration on docs/mta-sendmail.md: who may relay, and for how long."""

from __future__ import annotations

import datetime as dt
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator

import pytest
from clients import asked, rcpt, smtp
from daemon import GRACE, Daemon
from lab import CHECKOUT, Lab, eventually
from servers import SENDMAIL, STATE, start_sendmail

pytestmark = pytest.mark.system

Address = Callable[[int], str]
PAGE = (CHECKOUT / "docs/mta-sendmail.md").read_text()
BLOCKS = re.findall(r"^```\w*\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
CONFIG, INSTALL, HASH, AUTH, *WAYS, INSIDE, INSIDE_RELAY_OK, _ = BLOCKS
WRITERS, LINES = WAYS[::2], [HASH, *WAYS[1::2]]
PORTS = (25, 26, 27, 28, 29)
HACK, TEXT, SOCKET, DRAC, ACCESS = PORTS
AUTHENTICATING = 30
FILES = ("popauth.db", "popauth.txt", "drac.db", "access.db")
LOCAL = "root@mx.test.example"
DENIED, PERMITTED = {550}, {250}
NETWORKS = ("203.0.113.200", "2001:db8:9::200")
"""A client in class R and one in the administrator's access map."""
NAMELESS = "203.0.113.201"


class SendmailDaemon(Daemon):
    """A daemon with every writer of the page."""

    def __init__(self, lab: Lab) -> None:
        super().__init__(lab, "dovecot", name="sendmail")
        lab.write("/var/log/mail.log", "")
        lab.write(self.config, f'grace = {GRACE:.0f}\nstate_dir = "{STATE}-state"\n{CONFIG}' + "".join(WRITERS))


@pytest.fixture(scope="module")
def lab(new_lab: type[Lab]) -> Iterator[Lab]:
    """Give a lab with a sendmail for each way; no map exists yet."""
    with new_lab(*SENDMAIL) as lab:
        lab.sh(INSTALL.replace("/opt/pop-before-smtp/bin/python", sys.executable))
        lab.sh(f"""
            install -d -m 755 -o nobody {STATE}
            echo 203.0.113.200 > /etc/mail/relay-domains
            echo connect:ipv6:2001:db8:9:0:0:0:0:200 RELAY | makemap hash /etc/mail/access
            chmod 644 /etc/mail/access.db
        """)
        named = [f"203.0.113.{n}" for n in range(1, 201)] + [f"2001:db8:9:0:1::{n:x}" for n in range(1000)]
        ways = dict(zip(PORTS, LINES, strict=True)) | {AUTHENTICATING: AUTH}
        start_sendmail(lab, ways, [*named, *NETWORKS[1:]])
        lab.sh(f"cp /etc/mail/{ACCESS}.cf /etc/mail/sendmail.cf")
        yield lab


@pytest.fixture(scope="module")
def only_daemon(lab: Lab) -> Iterator[Daemon]:
    with SendmailDaemon(lab) as daemon:
        lab.sh(f"chown nobody:nogroup {STATE}/*")  # as if the daemon ran as a user of its own
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


def codes(lab: Lab, client: str, recipient: str = "someone@foreign.example") -> set[int]:
    return {asked(lab, client, port, recipient) for port in PORTS}


def permitted_by(lab: Lab, port: int, script: str, client: str) -> str:
    """Return what a command of the page says of a client."""
    groups = ["0"] * 8
    if ":" in client:
        head, _, tail = client.partition("::")
        groups[: head.count(":") + 1] = head.split(":")
        groups[-1] = tail
        client = "IPv6:" + ":".join(groups)
    said = lab.sh(script.replace("203.0.113.7", client).replace("-bt", f"-C /etc/mail/{port}.cf -bt"))
    (answer,) = re.findall(r"^(?:PopBeforeSmtp|Relay_ok) +returns: (.*)", said, re.MULTILINE)[-1:]
    return str(answer)


def test_login_opens_the_relay_and_the_end_of_its_lease_closes_it(lab: Lab, daemon: Daemon, address: Address) -> None:
    clients, stranger = [address(4), address(6)], address(4)
    assert daemon.running
    for client in clients:
        assert codes(lab, client) == DENIED
    login = logged_in(lab, *clients)
    eventually(lambda: [codes(lab, client) for client in clients] == [PERMITTED] * 2)
    assert codes(lab, stranger) == DENIED
    assert time.monotonic() < login + GRACE, "too slow a machine to tell"
    eventually(lambda: [codes(lab, client) for client in clients] == [DENIED] * 2, within=GRACE + 3)
    assert GRACE - 0.1 <= time.monotonic() - login <= GRACE + 3.5


@pytest.mark.usefixtures("daemon")
def test_client_without_a_name(lab: Lab) -> None:
    assert codes(lab, NAMELESS) == {450}
    logged_in(lab, NAMELESS)
    eventually(lambda: codes(lab, NAMELESS) == PERMITTED)


@pytest.mark.usefixtures("daemon")
def test_an_open_session_sees_the_socket_but_no_file(lab: Lab, address: Address) -> None:
    client = address(6)
    with smtp(lab, client, SOCKET) as live, smtp(lab, client, HACK) as renamed:
        assert rcpt(live) == rcpt(renamed) == 550
        logged_in(lab, client)
        eventually(lambda: codes(lab, client) == PERMITTED)
        assert rcpt(live) == 250
        assert rcpt(renamed) == 550


@pytest.mark.usefixtures("daemon")
def test_clients_that_may_relay_anyway_get_no_lease(lab: Lab, daemon: Daemon, address: Address) -> None:
    other = address(4)
    assert {asked(lab, client, ACCESS) for client in NETWORKS} == PERMITTED
    logged_in(lab, *NETWORKS, other)
    eventually(lambda: codes(lab, other) == PERMITTED)
    assert not {lease["address"] for lease in daemon.leases()}.intersection(NETWORKS)


@pytest.mark.usefixtures("daemon")
def test_the_tests_on_the_page(lab: Lab, address: Address) -> None:
    client, stranger = address(6), address(4)
    logged_in(lab, client)
    eventually(lambda: codes(lab, client) == PERMITTED)
    for port in (HACK, TEXT, SOCKET):
        assert (permitted_by(lab, port, INSIDE, client), permitted_by(lab, port, INSIDE, stranger)) == ("OK", "NO")
    for port in (DRAC, ACCESS):
        assert permitted_by(lab, port, INSIDE_RELAY_OK, client) == "RELAY"
        assert permitted_by(lab, port, INSIDE_RELAY_OK, stranger) != "RELAY"


@pytest.mark.usefixtures("daemon")
def test_counting_as_authenticated(lab: Lab, address: Address) -> None:
    client, stranger = address(4), address(4)
    assert asked(lab, client, AUTHENTICATING) == 550
    logged_in(lab, client)
    eventually(lambda: asked(lab, client, AUTHENTICATING) == 250)
    for who, kind in ((client, "POP"), (stranger, "")):
        lines = f".D{{client_addr}}{who}\nLocal_check_mail a@b.example\n${{auth_type}}\n"
        said = lab.run("sendmail", "-C", f"/etc/mail/{AUTHENTICATING}.cf", "-bt", text=lines).stdout
        assert said.splitlines()[-2].removeprefix("> ") == (kind or "Undefined")


def test_purge_ends_the_leases_of_a_killed_daemon(lab: Lab, daemon: Daemon, address: Address) -> None:
    client = address(4)
    login = logged_in(lab, client)
    eventually(lambda: codes(lab, client) == PERMITTED)
    time.sleep(max(0.0, login + 1.5 - time.monotonic()))  # by then the state knows of it, too
    daemon.stop(signal.SIGKILL)
    assert asked(lab, client, SOCKET) == 550
    time.sleep(max(0.0, login + GRACE + 0.5 - time.monotonic()))
    files = set(PORTS) - {SOCKET}
    assert {asked(lab, client, port) for port in files} == PERMITTED  # nobody is there to end it
    daemon.command("purge")
    assert codes(lab, client) == DENIED
    assert {name for name in FILES if lab.path(f"{STATE}/{name}").exists()} == set(FILES)


def test_local_mail_is_taken_with_the_maps_gone_or_damaged(lab: Lab, daemon: Daemon, address: Address) -> None:
    client = address(4)
    daemon.stop()
    for damage in ("rm -f", "truncate -s 3", "cp /etc/passwd"):
        lab.sh("".join(f"{damage} {STATE}/{name}\n" for name in FILES))
        assert codes(lab, client, LOCAL) == {250}
        assert codes(lab, client) == DENIED
    lab.sh(f"rm {STATE}/*")
    daemon.start()
    logged_in(lab, client)
    eventually(lambda: codes(lab, client) == PERMITTED)


def test_debians_own_configuration_takes_the_hack(lab: Lab) -> None:
    line = AUTH.strip().replace("/", r"\/")
    lab.sh(f'sed -i "/^MAILER_DEFINITIONS/i {line.replace("`", chr(92) + "`")}" /etc/mail/sendmail.mc')
    lab.sh("cp -p /etc/mail/sendmail.cf /etc/mail/kept.cf; make -C /etc/mail")
    try:
        assert (
            "\nKpopbeforesmtp hash -o /var/lib/pop-before-smtp/popauth\n"
            in lab.path("/etc/mail/sendmail.cf").read_text()
        )
        assert permitted_by(lab, 25, INSIDE, "203.0.113.99") == "NO"
    finally:
        lab.sh("cp -p /etc/mail/kept.cf /etc/mail/sendmail.cf")
