"""Postfix asks the daemon, by socketmap and policy service, from inside its chroot: every lease at that very moment.

The smtpds have the lines of ``docs/mta-postfix.md`` as they stand there.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Callable, Iterator

import pytest
from clients import LOCAL, asked, imap, pop, rcpt, smtp
from daemon import CONFIG, GRACE, Daemon
from lab import CHECKOUT, Lab, eventually
from servers import STATE, listening

pytestmark = pytest.mark.system

Address = Callable[[int], str]
PAGE = CHECKOUT / "docs/mta-postfix.md"
PORTS = {"socketmap:unix:": 30, "socketmap:inet:": 31, "check_policy_service": 32}
"""One smtpd for each way to ask, by what stands in its line on the page."""
DOWN = {"socketmap:unix:": 451, "socketmap:inet:": 451, "check_policy_service": 554}
"""What foreign recipients get while the daemon is dead."""


def lines() -> dict[str, str]:
    """Return the page's restriction lists for each way."""
    found = re.findall(r"^smtpd_relay_restrictions = (.*?)\n(?! )", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    return {way: next(line for line in found if way in line) for way in PORTS}


def writers() -> list[str]:
    """Return the page's writers for each way."""
    found = re.findall(r'^\[\[writer]]\nuse = "postfix"\n(?:\w+ = .*\n)*', PAGE.read_text(), re.MULTILINE)
    return [
        next(text for text in found if f'map = "{kind}' in text)
        for kind in ("socketmap:unix", "socketmap:inet", "policy")
    ]


@pytest.fixture(scope="module")
def lab(dovecot_lab: Lab) -> Lab:
    """Give the lab with one chrooted smtpd more for each way."""
    for name, way in enumerate(PORTS):
        with dovecot_lab.path("/etc/postfix/main.cf").open("a") as main:
            main.write(f"ask{name} = {lines()[way]}\n")
        with dovecot_lab.path("/etc/postfix/master.cf").open("a") as master:
            master.write(f"{PORTS[way]} inet n - y - - smtpd\n  -o smtpd_relay_restrictions=$ask{name}\n")
    dovecot_lab.sh("install -d -m 710 -g postfix /var/spool/postfix/pop-before-smtp; postfix reload")
    eventually(lambda: listening(dovecot_lab, *PORTS.values()), within=20)
    return dovecot_lab


@pytest.fixture
def daemon(lab: Lab) -> Iterator[Daemon]:
    """Give a running daemon that answers all three."""
    daemon = Daemon(lab, "dovecot", name="lookup", kinds=("cdb",))
    text = CONFIG.format(parser="dovecot", grace=GRACE, state=STATE, name="lookup", log="/var/log/mail.log")
    lab.write(daemon.config, text + "".join(writers()))
    with daemon:
        yield daemon


def codes(lab: Lab, client: str, recipient: str = "someone@foreign.example") -> dict[str, int]:
    return {way: asked(lab, client, port, recipient) for way, port in PORTS.items()}


def test_open_sessions_see_a_lease_begin_and_end(lab: Lab, daemon: Daemon, address: Address) -> None:
    four, six, stranger = address(4), address(6), address(4)
    for client in (four, six):
        assert set(codes(lab, client).values()) == {554}
    with (
        smtp(lab, four, PORTS["socketmap:unix:"]) as one,
        smtp(lab, six, PORTS["socketmap:inet:"]) as two,
        smtp(lab, four, PORTS["check_policy_service"]) as three,
    ):
        sessions = (one, two, three)
        assert [rcpt(session) for session in sessions] == [554] * 3
        assert imap(lab, four)
        assert pop(lab, six)
        eventually(lambda: [rcpt(session) for session in sessions] == [250] * 3)
        assert set(codes(lab, six).values()) == {250}
        assert set(codes(lab, stranger).values()) == {554}
        eventually(lambda: [rcpt(session) for session in sessions] == [554] * 3, within=GRACE + 1)
    assert daemon.running


def test_a_dead_daemon_permits_nothing_and_local_mail_goes_on(lab: Lab, daemon: Daemon, address: Address) -> None:
    client = address(4)
    assert imap(lab, client)
    eventually(lambda: set(codes(lab, client).values()) == {250})
    daemon.stop(signal.SIGKILL)
    assert codes(lab, client) == DOWN
    assert set(codes(lab, client, LOCAL).values()) == {250}
    daemon.start()
    assert imap(lab, client)
    eventually(lambda: set(codes(lab, client).values()) == {250})
    assert daemon.stop() == 0
    assert codes(lab, client) == DOWN


def test_asking_by_hand(lab: Lab, daemon: Daemon, address: Address) -> None:
    client, other = address(4), address(6)
    assert imap(lab, client)
    (command,) = re.findall(r"^postmap -q .* socketmap:\S+", PAGE.read_text(), re.MULTILINE)
    eventually(lambda: lab.run("sh", "-c", command.replace("203.0.113.7", client), check=False).stdout == "OK\n")
    assert lab.run("sh", "-c", command.replace("203.0.113.7", other), check=False).stdout == ""
    assert len([lease for lease in daemon.leases() if lease["address"] == client]) == len(PORTS)
