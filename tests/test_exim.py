"""Exim, from Debian's own configuration and from those on docs/mta-exim.md: who may relay, and for how long."""

from __future__ import annotations

import datetime as dt
import itertools
import json
import random
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator
from ipaddress import ip_network
from pathlib import Path

import pytest
from clients import LOCAL, asked, rcpt, smtp
from daemon import GRACE, PROGRAM, Daemon
from lab import CHECKOUT, Lab, eventually
from pop_before_smtp._networks import Netblocks
from servers import EXIM, STATE, exim_with, start_exim

pytestmark = pytest.mark.system

Address = Callable[[int], str]
PAGE = (CHECKOUT / "docs/mta-exim.md").read_text()
BLOCKS = re.findall(r"^```\w*\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
CONFIG, DC_RELAY_NETS, HOSTLIST, ACL, CDB_CONFIG, CDB_ACL, INSIDE = BLOCKS[:7]
PORTS = (25, 26, 27)
"""Debian's configuration, the page's own with a host list, the page's own with a cdb."""
OWN = PORTS[1:]
DENIED, PERMITTED = {550}, {250}


class EximDaemon(Daemon):
    """A daemon with the configuration of the page: a host list file and a cdb."""

    def __init__(self, lab: Lab) -> None:
        super().__init__(lab, "dovecot", name="exim")
        lab.write("/var/log/mail.log", "")
        lab.write(self.config, f'grace = {GRACE:.0f}\nstate_dir = "{STATE}/state"\n{CONFIG}{CDB_CONFIG}')


@pytest.fixture(scope="module")
def lab(new_lab: type[Lab]) -> Iterator[Lab]:
    """Give a lab with three exims; their files are not there yet."""
    with new_lab(*EXIM) as lab:
        lab.sh(f"mkdir -p -m 755 {STATE}")
        yield lab


@pytest.fixture(scope="module")
def only_daemon(lab: Lab) -> Iterator[Daemon]:
    with EximDaemon(lab) as daemon:
        own = exim_with(HOSTLIST, ACL)
        start_exim(lab, DC_RELAY_NETS, {26: own, 27: own.replace("  accept  hosts = +relay_from_hosts\n", CDB_ACL)})
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


def codes(lab: Lab, client: str, ports: tuple[int, ...] = PORTS) -> set[int]:
    return {asked(lab, client, port) for port in ports}


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
def test_an_open_session_keeps_its_answer(lab: Lab, address: Address) -> None:
    client = address(4)
    with smtp(lab, client, 26) as session:
        assert rcpt(session) == 550
        logged_in(lab, client)
        eventually(lambda: asked(lab, client, 26) == 250)
        assert rcpt(session) == 550


@pytest.mark.usefixtures("daemon")
def test_the_tests_on_the_page(lab: Lab, address: Address) -> None:
    client, stranger = address(6), address(4)
    logged_in(lab, client)
    eventually(lambda: asked(lab, client) == 250)
    condition = next(line for line in re.findall(r"`exim4 -be '(.*?)'`", PAGE))
    for who, answer, matched in ((client, "250", "yes"), (stranger, "550", "no")):
        said = lab.sh(INSIDE.replace("203.0.113.7", who))
        assert re.findall(r"^(250|550) (?:Accepted|relay)", said, re.MULTILINE) == [answer]
        assert lab.run("exim4", "-be", condition.replace("203.0.113.7", who)).stdout == f"{matched}\n"


def test_a_restart_keeps_the_lease(lab: Lab, daemon: Daemon, address: Address) -> None:
    client = address(4)
    login = logged_in(lab, client)
    eventually(lambda: codes(lab, client, OWN) == PERMITTED)
    daemon.stop()
    assert lab.path(f"{STATE}/hosts").read_text() == ""
    assert codes(lab, client, OWN) == DENIED
    daemon.start()
    assert time.monotonic() < login + GRACE, "too slow a machine to tell"
    assert codes(lab, client, OWN) == PERMITTED


def test_purge_ends_the_leases_of_a_killed_daemon(lab: Lab, daemon: Daemon, address: Address) -> None:
    client = address(4)
    login = logged_in(lab, client)
    eventually(lambda: codes(lab, client, OWN) == PERMITTED)
    time.sleep(0.5)  # by now the state knows it too
    daemon.stop(signal.SIGKILL)
    assert time.monotonic() < login + GRACE, "too slow a machine to tell"
    time.sleep(max(0.0, login + GRACE + 0.2 - time.monotonic()))
    assert codes(lab, client, OWN) == PERMITTED  # nobody is there to end it
    daemon.command("purge")
    assert codes(lab, client, OWN) == DENIED
    assert lab.path(f"{STATE}/hosts").read_text() == ""


def test_missing_files(lab: Lab, daemon: Daemon, address: Address) -> None:
    client = address(4)
    daemon.stop()
    lab.sh(f"rm {STATE}/hosts {STATE}/relay.cdb")
    assert [asked(lab, client, port, LOCAL) for port in OWN] == [250, 250]
    assert [asked(lab, client, port) for port in PORTS] == [421, 421, 451]
    assert asked(lab, client, 25, "root@mx.test.example") == 421
    daemon.start()
    assert codes(lab, client) == DENIED


def test_check_beside_exim_has_nothing_to_say(lab: Lab, daemon: Daemon) -> None:
    done = lab.run(PROGRAM, "check", "-c", CHECKOUT / "examples/exim.toml", check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    (lab.path("/tmp/config")).write_text(Path(lab.path(daemon.config)).read_text())
    nobody = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", "--no-new-privs", "--"]
    script = "from pop_before_smtp_exim import *; w, = pop_before_smtp_writers()\n"
    script += f'print(*(str(n) for n, _ in w.netblocks(Settings(map="hosts:{STATE}/hosts"))))'
    done = lab.run(*nobody, sys.executable, "-W", "error", "-c", script)
    assert done.stdout == "127.0.0.1/32 ::1/128\n"


LISTS = """
import json, sys, pathlib
from pop_before_smtp_exim._hostlist import UnlistableError, entries
lists = json.load(sys.stdin)
found = {}
for name in lists:
    found[name] = []
    try:
        for network, permitted in entries(name, lists, pathlib.Path("/nowhere")):
            found[name].append([str(network), permitted])
    except UnlistableError:
        found[name].append(None)
print(json.dumps(found))
"""

ITEMS: tuple[str, ...] = (
    "10.0.0.0/8",
    "!10.1.0.0/16",
    "10.1.2.3",
    "!10.1.2.3",
    "2001:db8::/32",
    "!2001:db8::1",
    "+inner",
    "!+inner",
)
ITEMS += ("/tmp/nets", "!/tmp/nets", "/tmp/none", "!/tmp/none", "@[]", "!@[]", "", "+ignore_unknown", "10.1.2.0/33")
FEW = ("*", "!*", "192.0.2", "no-name.example", "[10.1.2.3]", "10.1.2.3/", "::ffff:10.1.2.3", "net-iplsearch;/tmp/nets")
PROBES = ("10.1.2.3", "10.1.2.4", "10.2.0.1", "10.9.0.1", "172.16.0.1", "2001:db8::1", "2001:db8::2", "2001:db9::1")


def random_lists() -> dict[str, str]:
    """Return host lists of every form in every order; the first ones hold the rare forms."""
    draw = random.Random(4)  # noqa: S311 - the same lists each time
    lists = {"inner": "!10.1.2.4 : 10.1.2.0/24 : 10.9.0.1"}
    for number in range(300):
        items = draw.choices(ITEMS, k=draw.randint(1, 4))
        if number < 60:
            items.insert(draw.randrange(len(items)), draw.choice(FEW))
        lists[f"l{number}"] = "<; " + " ; ".join(items)
    return lists


def test_host_lists_are_read_as_exim_reads_them(lab: Lab) -> None:
    """Whom we say exim permits, it permits; and where we read to the end, whom we say it does not, it does not."""
    lab.write("/tmp/nets", "10.1.2.3\n!10.2.0.1 # not\n10.2.0.0/16\n2001:db8::2\n")
    lab.write("/tmp/none", "")
    lists = random_lists()
    lab.write("/etc/exim4/lists.conf", f"primary_hostname = mx.test.example\nhostlist inner = {lists['inner']}\n")
    read = json.loads(lab.run(sys.executable, "-W", "ignore", "-c", LISTS, text=json.dumps(lists)).stdout)
    asked = list(itertools.product(lists, PROBES))
    questions = "".join(f"${{if match_ip{{{ip}}}{{{lists[name]}}}{{yes}}{{no}}}}\n" for name, ip in asked)
    said = lab.run("exim4", "-C", "/etc/exim4/lists.conf", "-be", text=questions).stdout
    answers = re.findall(r"^(?:> )?(yes|no|Failed.*)$", said, re.MULTILINE)
    assert len(answers) == len(asked)
    certain = 0
    for (name, ip), answer in zip(asked, answers, strict=True):
        networks = [entry for entry in read[name] if entry]
        permitted = ip in Netblocks((ip_network(network), yes) for network, yes in networks)
        whole = None not in read[name] and "net-" not in lists[name]
        certain += whole
        assert (answer == "yes") == permitted or not (whole or permitted), (lists[name], ip, answer)
    assert certain > 1500
