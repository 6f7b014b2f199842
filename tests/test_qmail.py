"""tcpserver with the configuration on docs/mta-qmail.md, and in qmail's place a script that honours RELAYCLIENT."""

from __future__ import annotations

import datetime as dt
import itertools
import random
import re
import signal
import time
import warnings
from collections.abc import Callable, Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import NamedTuple

import pytest
from clients import LOCAL, asked, rcpt, smtp
from daemon import GRACE, PROGRAM, Daemon
from lab import CHECKOUT, Lab, eventually
from pop_before_smtp._networks import Netblocks
from pop_before_smtp.errors import ConfigError
from pop_before_smtp_qmail import Settings, pop_before_smtp_writers
from pop_before_smtp_qmail._map import open_map
from servers import STATE, listening

pytestmark = pytest.mark.system

Address = Callable[[int], str]
PAGE = (CHECKOUT / "docs/mta-qmail.md").read_text()
BLOCKS = re.findall(r"^```\w*\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
CONFIG, RULES, SERVICE, _RELOAD, INSIDE, _OUTSIDE, BY_HAND = BLOCKS
CDB = f"{STATE}/tcp.smtp.cdb"
FRIEND, FOE = "203.0.113.201", "203.0.113.66"
"""A client that may relay without a login, and one that may not connect."""

(WRITER,) = pop_before_smtp_writers()
QMAIL_SMTPD = """#!/bin/sh
# Decides as qmail-smtpd does: who has RELAYCLIENT may send anywhere, others to this machine. Says also who filters.
cr=$(printf '\\r')
say() { printf '%s\\r\\n' "$*"; }
say 220 mx.test.example ESMTP
while IFS= read -r line; do
    case $(printf %s "${line%"$cr"}" | tr a-z A-Z) in
        EHLO*|HELO*) say "250 mx.test.example filter $QMAILQUEUE" ;;
        MAIL*|RSET*) say 250 ok ;;
        RCPT*@MX.TEST.EXAMPLE\\>*) say 250 ok ;;
        RCPT*) if [ "${RELAYCLIENT+set}" ]; then say 250 ok; else say "553 not in my list of allowed rcpthosts"; fi ;;
        QUIT*) say 221 mx.test.example; exit ;;
        *) say 502 unimplemented ;;
    esac
done
"""


class QmailDaemon(Daemon):
    """A daemon with the configuration of the page."""

    def __init__(self, lab: Lab) -> None:
        super().__init__(lab, "qmail", name="qmail")
        lab.write("/var/log/mail.log", "")
        lab.write(self.config, f'grace = {GRACE:.0f}\nstate_dir = "{STATE}/state"\n{CONFIG}')


@pytest.fixture(scope="module")
def lab(new_lab: type[Lab]) -> Iterator[Lab]:
    """Give a lab with tcpserver running; the file that it is to read is not there yet."""
    with new_lab("ucspi-tcp-ipv6") as lab:
        lab.sh(f"mkdir -p -m 755 {STATE}")
        lab.write("/usr/local/bin/qmail-smtpd", QMAIL_SMTPD, 0o755)
        start_tcpserver(lab)
        yield lab


@pytest.fixture(scope="module")
def only_daemon(lab: Lab) -> Iterator[Daemon]:
    lab.write("/etc/tcp.smtp", RULES)
    with QmailDaemon(lab) as daemon:
        yield daemon


@pytest.fixture
def daemon(lab: Lab, only_daemon: Daemon) -> Daemon:
    """Give the daemon, running with the rules of the page, whatever the test before did to them."""
    if lab.path("/etc/tcp.smtp").read_text() != RULES:
        lab.write("/etc/tcp.smtp", RULES)
    if not only_daemon.running:
        only_daemon.start()
    return only_daemon


def start_tcpserver(lab: Lab) -> None:
    """Run the page's command, as a user who owns nothing."""
    service = SERVICE.replace("exec tcpserver", "exec /usr/bin/tcpserver")
    service = service.replace("qmail-smtpd", "/usr/local/bin/qmail-smtpd")
    lab.sh(f"SMTPUSER=65534; SMTPGROUP=65534; ({service}) >/dev/null 2>&1 &")
    eventually(lambda: listening(lab, 25))


def logged_in(lab: Lab, *clients: str, service: str = "pop3") -> float:
    """Write what vchkpw writes when these clients log in; return when."""
    stamp = dt.datetime.now(dt.UTC).isoformat()
    with lab.path("/var/log/mail.log").open("a") as log:
        for client in clients:
            spelt = client.replace(":", "_")
            log.write(f"{stamp} mx vpopmail[7]: vchkpw-{service}: (PLAIN) login success ann@mx.test.example:{spelt}\n")
    return time.monotonic()


def checked(lab: Lab, client: str, cdb: str = CDB) -> str:
    """Return what the page's command says of a client: the rule, the variables, and allow or deny."""
    return lab.sh(INSIDE.replace("203.0.113.7", client).replace(CDB, cdb))


def test_login_opens_the_relay_and_the_end_of_its_lease_closes_it(lab: Lab, daemon: Daemon, address: Address) -> None:
    """The rules of the page hold all the time, and the filter that they set for everybody."""
    clients, stranger = [address(4), address(6), "2001:db8:9:0:7:8:9:a"], address(4)
    assert daemon.running
    assert [asked(lab, client) for client in [*clients, stranger, FRIEND]] == [553, 553, 553, 553, 250]
    login = logged_in(lab, *clients, FRIEND, FOE)
    logged_in(lab, stranger, service="smtp")
    eventually(lambda: [asked(lab, client) for client in clients] == [250] * 3)
    assert [asked(lab, client) for client in (stranger, FRIEND)] == [553, 250]
    for client in (*clients, stranger):
        with smtp(lab, client) as session:
            assert session.ehlo_resp == b"mx.test.example filter /var/qmail/bin/scan"
    with pytest.raises(OSError, match="Connection"):
        asked(lab, FOE)
    assert "set environment variable RELAYCLIENT=\n" in checked(lab, clients[1])
    assert "RELAYCLIENT" not in checked(lab, stranger)
    assert time.monotonic() < login + GRACE, "too slow a machine to tell"
    eventually(lambda: [asked(lab, client) for client in clients] == [553] * 3, within=GRACE + 3)
    assert GRACE - 0.1 <= time.monotonic() - login <= GRACE + 3.5
    assert asked(lab, FRIEND) == 250


@pytest.mark.usefixtures("daemon")
def test_an_open_session_keeps_its_answer(lab: Lab, address: Address) -> None:
    client = address(4)
    with smtp(lab, client) as session:
        assert rcpt(session) == 553
        logged_in(lab, client)
        eventually(lambda: asked(lab, client) == 250)
        assert rcpt(session) == 553


def test_rules_that_change_count_from_the_next_write_on(lab: Lab, daemon: Daemon, address: Address) -> None:
    client, other = address(4), address(4)
    logged_in(lab, client)
    eventually(lambda: asked(lab, client) == 250)
    lab.write("/etc/tcp.smtp", f"{client}:deny\n{RULES}")
    daemon.kill(signal.SIGHUP)
    eventually(lambda: "deny connection" in checked(lab, client))
    lab.write("/etc/tcp.smtp", f'{other}:allow,RELAYCLIENT=""\n{RULES}')
    logged_in(lab, address(6))
    eventually(lambda: asked(lab, other) == 250)


def test_wrong_rules_stop_no_mail(lab: Lab, daemon: Daemon, address: Address) -> None:
    """Nothing is granted any more, until they are mended."""
    client = address(6)
    lab.write("/etc/tcp.smtp", "127.:allow\n10.:alow\n")
    done = daemon.command("check", check=False)
    assert done.returncode == 78
    assert "writer[0].rules: /etc/tcp.smtp, line 2: neither allow nor deny" in done.stderr
    logged_in(lab, client)
    eventually(lambda: "/etc/tcp.smtp, line 2" in daemon.log())
    assert [asked(lab, FRIEND), asked(lab, client), asked(lab, client, recipient=LOCAL)] == [250, 553, 250]
    lab.write("/etc/tcp.smtp", RULES)
    logged_in(lab, client)
    eventually(lambda: asked(lab, client) == 250, within=8)


def test_purge_ends_the_leases_of_a_killed_daemon(lab: Lab, daemon: Daemon, address: Address) -> None:
    early, late = address(4), address(6)
    login = logged_in(lab, early)
    eventually(lambda: asked(lab, early) == 250)
    time.sleep(max(0.0, login + 2 - time.monotonic()))
    logged_in(lab, late)
    eventually(lambda: asked(lab, late) == 250)
    time.sleep(0.5)  # by now the state knows it too
    daemon.stop(signal.SIGKILL)
    assert time.monotonic() < login + GRACE, "too slow a machine to tell"
    time.sleep(login + GRACE + 0.2 - time.monotonic())
    assert asked(lab, early) == 250  # nobody is there to end it
    daemon.command("purge")
    assert [asked(lab, client) for client in (early, late, FRIEND)] == [553, 250, 250]


def test_a_restart_keeps_the_lease_and_a_stop_the_rules(lab: Lab, daemon: Daemon, address: Address) -> None:
    client = address(4)
    login = logged_in(lab, client)
    eventually(lambda: asked(lab, client) == 250)
    daemon.stop()
    assert [asked(lab, client), asked(lab, FRIEND), asked(lab, client, recipient=LOCAL)] == [553, 250, 250]
    daemon.start()
    assert time.monotonic() < login + GRACE, "too slow a machine to tell"
    assert asked(lab, client) == 250


def test_without_the_file_nobody_relays_and_mail_arrives(lab: Lab, daemon: Daemon, address: Address) -> None:
    daemon.stop()
    lab.sh(f"rm {CDB}")
    assert [asked(lab, FRIEND), asked(lab, address(4), recipient=LOCAL)] == [553, 250]
    lab.sh(BY_HAND)
    assert asked(lab, FRIEND) == 250
    daemon.start()
    assert asked(lab, FRIEND) == 250


# -- what Debian's own tools say

PARTS = ("", "1", "2", "10", "08", "255", "256", "7-9", "254-300", "9-7", "-3", "4-", "a")
INSTRUCTIONS = (
    *("allow", "deny", 'allow,RELAYCLIENT=""', 'allow,RELAYCLIENT="",A="b c"', "allow,A=/x:y/,B=.=.", 'deny,A="x"'),
    *('allow,RBLSMTPD="-no",=xyx', "allow  \t", 'allow,QMAILQUEUE="/bin/scan"', 'allow,A="allow",B=":deny"'),
)
OTHERS = (
    "=h-o.example:deny",
    "=.example:allow",
    "=:allow",
    "Ann@10.1.2.1-2:deny",
    "# 1.2.3.4:deny",
    "",
    " x:allow",
    "none",
)
BEGINNINGS6 = (
    "2001:db8::",
    "2001:db8:",
    "2001:",
    "2001:db8:9:",
    "2001:db8:9::",
    "2001:0:",
    "2001:db8::1",
    "2001:db8:0:1:",
)


def some_rules(dice: random.Random, *, mistakes: bool) -> str:
    """Return a rules file; one without mistakes has IPv6 in it instead."""
    lines = []
    for _ in range(dice.randrange(12)):
        address = ".".join(dice.choices(PARTS[: len(PARTS) - (not mistakes)], k=dice.randrange(5)))
        if not mistakes and dice.random() < 0.4:
            address = dice.choice(BEGINNINGS6)
        line = f"{address}{dice.choice(['.', ''])}:{dice.choice(INSTRUCTIONS)}" if ":" not in address else ""
        line = line or f"{address}:{dice.choice(INSTRUCTIONS)}"
        lines.append(dice.choice(OTHERS[: len(OTHERS) - (not mistakes)]) if dice.random() < 0.2 else line)
        if mistakes and lines[-1] and dice.random() < 0.05:
            cut = dice.randrange(len(lines[-1]))
            lines[-1] = lines[-1][:cut] + lines[-1][cut + 1 :]
    return "".join(f"{line}\n" for line in lines)


def written(folder: Path, name: str, *keys: str) -> bytes | None:
    """Return the cdb that we write from rules and leases; None if they are refused."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            target = open_map(Settings(map=f"cdb:{folder}/ours.cdb", rules=f"{folder}/{name}"))
    except ConfigError:
        return None
    target.build(folder / "ours.cdb", target.items(set(keys)))  # as write does, without waiting for the disk
    return (folder / "ours.cdb").read_bytes()


@pytest.fixture(scope="module")
def old_lab(new_lab: type[Lab]) -> Iterator[Lab]:
    """Give a lab with Debian's tcpserver that knows no IPv6."""
    with new_lab("ucspi-tcp") as lab:
        lab.write("/usr/local/bin/qmail-smtpd", QMAIL_SMTPD, 0o755)
        lab.sh(f"mkdir -p -m 755 {STATE}")
        yield lab


@pytest.mark.parametrize("mistakes", [False, True])
def test_rules_are_compiled_as_tcprules_does(lab: Lab, old_lab: Lab, tmp_path: Path, mistakes: bool) -> None:
    """To the byte; and what it refuses we refuse. The one that knows IPv6 hangs at most mistakes."""
    dice = random.Random(4)  # noqa: S311 - no secret
    where = old_lab if mistakes else lab
    names = [f"{number:03}" for number in range(200)]
    where.sh("rm -rf /tmp/rules; mkdir /tmp/rules")
    for name in names:
        text = some_rules(dice, mistakes=mistakes)
        (tmp_path / name).write_text(text)
        where.path(f"/tmp/rules/{name}").write_text(text)
    where.sh("cd /tmp/rules; for f in ???; do timeout 5 tcprules $f.cdb $f.tmp < $f 2>/dev/null || rm -f $f.cdb; done")
    theirs = {name: where.path(f"/tmp/rules/{name}.cdb") for name in names}
    refused = {name for name in names if not theirs[name].exists()}
    assert len(refused) > 10 if mistakes else not refused
    for name in names:
        ours = written(tmp_path, name)
        assert ours == (None if name in refused else theirs[name].read_bytes()), (tmp_path / name).read_text()


class Answer(NamedTuple):
    """What tcpserver would do for a client."""

    rule: str
    sets: frozenset[str]
    allowed: bool

    @classmethod
    def of(cls, said: str) -> Answer:
        rule, *sets, verdict = said.splitlines()
        return cls(rule, frozenset(sets), verdict == "allow connection")

    @property
    def relays(self) -> bool:
        return self.allowed and RELAY in self.sets


RELAY = "set environment variable RELAYCLIENT="
CLIENTS = {
    **{
        client: client for client in map(".".join, itertools.product(("1", "10"), ("2", "8"), ("1", "7"), ("9", "255")))
    },
    **{client: client for client in ("2001:db8::1", "2001:db8:9::1", "2001:db8:9::", "2001:0:9::1", "2001:db8:7::7")},
    "2001:db8:0:1:2:3:4:5": "2001:db8::1:2:3:4:5",
}
"""Canonical, and as tcpserver was seen to spell it."""
LEASED = {*list(CLIENTS)[::2], "2001:db8:9::1", "2001:db8:9::"}


def test_networks_and_leases_are_what_tcpserver_finds(lab: Lab, tmp_path: Path) -> None:
    """For many rules and clients: who relays without a lease, whom a lease helps, and that it changes nothing else."""
    dice = random.Random(5)  # noqa: S311 - as above
    lab.sh("rm -rf /tmp/rules; mkdir /tmp/rules")
    names = [f"{number:03}" for number in range(30)]
    for name in names:
        (tmp_path / name).write_text(some_rules(dice, mistakes=False))
        for kind, keys in (("static", set()), ("leases", LEASED)):
            lab.path(f"/tmp/rules/{name}.{kind}").write_bytes(written(tmp_path, name, *keys) or b"")
    each = f"for i in {' '.join(CLIENTS.values())}; do TCPREMOTEIP=$i tcprulescheck $f; echo @; done"
    said = iter(lab.sh(f"cd /tmp/rules; for f in *; do {each}; done").split("@\n"))
    files = sorted(f"{name}.{kind}" for name in names for kind in ("static", "leases"))
    answers = {(file, client): Answer.of(next(said)) for file in files for client in CLIENTS}
    kinds = set()
    for name, client in itertools.product(names, CLIENTS):
        before, after = (answers[f"{name}.{kind}", client] for kind in ("static", "leases"))
        assert WRITER.netblocks
        listed = client in Netblocks(WRITER.netblocks(Settings(map="cdb:/x", rules=f"{tmp_path}/{name}")))
        assert before.relays or not listed
        assert listed or not before.relays or ":" in client  # of IPv6 not all can be listed
        default = before.rule in {"rule :", "default:"}
        known = before.rule == f"rule {CLIENTS[client]}:"
        if client in LEASED and not client.endswith(":") and not known and (before.allowed or default):
            assert (after.allowed, after.sets) == (True, (before.sets if before.allowed else frozenset()) | {RELAY})
        else:
            assert after == before
        kinds.add((client in LEASED, default, known, before.allowed, before.relays, ":" in client))
    assert len(kinds) > 20


def test_a_tcpserver_without_ipv6_serves_ipv4(old_lab: Lab, tmp_path: Path, address: Address) -> None:
    client = address(4)
    (tmp_path / "rules").write_text(":allow\n")
    cdb = written(tmp_path, "rules", client, str(ip_address("2001:db8::1")))
    assert cdb
    old_lab.path(CDB).write_bytes(cdb)
    start_tcpserver(old_lab)
    assert [asked(old_lab, client), asked(old_lab, address(4))] == [250, 553]


def test_check_beside_qmail_has_nothing_to_say(lab: Lab, daemon: Daemon) -> None:
    assert daemon.running
    done = lab.run(PROGRAM, "check", "-c", CHECKOUT / "examples/qmail.toml", check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
