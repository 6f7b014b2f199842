"""systemd's journal as the log, whole: systemd, journald, journalctl and the daemon in its sandbox."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from daemon import PROGRAM
from lab import CHECKOUT, Lab
from pop_before_smtp import LOGIN, LoginEvent
from pop_before_smtp._match import Matcher
from pop_before_smtp._plugins import installed, load
from pop_before_smtp._sources import JournalSource
from pop_before_smtp._trust import Senders, Trust
from pop_before_smtp.api import Record
from pop_before_smtp.testing import FakeClock
from test_packaging import BOOT, LAB_UNIT, PACKAGING, REACHABLE

# No [[source]]: the journal is found.
CONFIG = """
plugins = ["dovecot", "postfix"]
[[writer]]
use = "postfix"
map = "cdb:/var/lib/pop-before-smtp/relay"
netblocks = []
"""
# Writes to syslog, as the user {user}, what comes through a named pipe, and lives on as Dovecot's log process does.
UNIT = """
[Service]
User={user}
ExecStartPre=+mkfifo -m 666 /run/%N
ExecStart=sh -c 'exec logger -t dovecot <> /run/%N'
"""
# Prints what it finds, and at last all leases.
STEPS = """
unit=pop-before-smtp.service
program=/opt/pop-before-smtp/bin/pop-before-smtp
line() { echo "imap-login: Login: user=<ann>, method=PLAIN, rip=203.0.113.$1, lip=198.51.100.1, mpid=7, session=<a>"; }
leases() { $program list --json | grep -o '"address": *"[^"]*"' | sort -u; }
leased() { grep -q "added 203.0.113.$1 to DB" /run/pop-before-smtp.log; }
login() { line $1 > /run/dovecot; }
expect() { for _ in $(seq 100); do leased $1 && return; sleep 0.05; done; echo "never: $1"; }

systemctl start dovecot forger session-7.service
systemctl start $unit
echo "start: $(systemctl is-active $unit)"
login 1; expect 1
$program check 2> /dev/null | grep '^# source: the journal: its newest record of dovecot is' > /dev/null && echo "check: the journal"

line 11 > /run/forger
line 12 > /run/session-7
line 13 | logger -t dovecot
line 14 | setpriv --reuid=65534 --clear-groups logger -t dovecot
line 15 | systemd-cat -t dovecot
login 2; expect 2
echo "forged: $(journalctl --quiet --identifier=dovecot | grep -c 'rip=203.0.113.1[1-5]')"

journalctl --rotate
login 3; expect 3
journalctl --quiet --vacuum-time=1us
login 4; expect 4

pkill -KILL -x journalctl
login 5; expect 5

systemctl stop $unit
login 6
systemctl start $unit; expect 6
echo "gone: $(grep -c 'gone' /run/pop-before-smtp.log)"

systemctl stop $unit
journalctl --rotate
journalctl --quiet --vacuum-time=1us
login 7
systemctl start $unit; expect 7
echo "gone: $(grep -c 'gone' /run/pop-before-smtp.log)"
leases
"""
SAID = ["start: active", "check: the journal", "forged: 5", "gone: 0", "gone: 1"]
SAID += [f'"address":"203.0.113.{number}"' for number in range(1, 8)]


@pytest.fixture(scope="module")
def machine(new_lab: type[Lab]) -> Iterator[Lab]:
    """Give a lab in which the commands of packaging/README.md have been run, but for those of Postfix."""
    with new_lab() as lab:
        commands = re.search(r"```sh\n(.*?)```", (PACKAGING / "README.md").read_text(), re.DOTALL)
        assert commands
        lab.sh(f"mkdir -p /opt/pop-before-smtp/bin; ln -s {PROGRAM} /opt/pop-before-smtp/bin; rm -f /var/log/mail*")
        install = re.sub(r"(?m)^.*# with Postfix$", "", commands[1])
        lab.sh(f"cd {CHECKOUT}; mkdir -p /etc/logrotate.d /var/log/journal; {install}")
        yield lab


@pytest.mark.system
def test_logins_in_the_journal(machine: Lab) -> None:
    """Only those that Dovecot's unit wrote, whatever becomes of the journal's files."""
    paths = " ".join({str(CHECKOUT), sys.prefix} | ({sys.base_prefix} - {"/usr"}))
    machine.write("/etc/systemd/system/pop-before-smtp.service.d/lab.conf", REACHABLE.format(paths=paths))
    machine.write("/etc/pop-before-smtp.toml", CONFIG)
    machine.write("/etc/systemd/system/lab.service", LAB_UNIT)
    for unit, user in (("dovecot", "root"), ("forger", "root"), ("session-7", "nobody")):
        machine.write(f"/etc/systemd/system/{unit}.service", UNIT.format(user=user))
    machine.write("/run/steps", STEPS)
    namespaces = ["--mount", "--pid", "--cgroup", "--fork", "--kill-child"]
    machine.run(
        "timeout", "--signal=KILL", "40", "unshare", *namespaces, "sh", "-euc", BOOT, "sh", "lab.service", check=False
    )
    said = machine.path("/run/said").read_text()
    log = machine.path("/run/pop-before-smtp.log").read_text()
    assert [line.replace(" ", "") if "address" in line else line for line in said.splitlines()] == SAID, log
    assert "journalctl was ended by SIGKILL" in log


# -- what real servers wrote


LOGS = sorted(CHECKOUT.glob("plugins/*/tests/data/*/journald.jsonl"))
FORGED = {"198.51.100.66", "2001:db8:bad::66"}
"""What clients wrote into their names, and no client had."""


def events(log: Path, folder: Path, unit: str) -> list[list[LoginEvent]]:
    """Return what is found in each record of a journal; those of its server are given a unit, which they lack."""
    lines = [json.loads(line) | {"_SYSTEMD_UNIT": unit} for line in log.read_text().splitlines()]
    printed = folder / "printed"
    printed.write_text("".join(json.dumps(line | {"__CURSOR": str(n)}) + "\n" for n, line in enumerate(lines)))
    parsers = load(list(installed()))[0].parsers
    trust = Trust(senders={parser.name: Senders(units=parser.units, uids=parser.uids) for parser in parsers})

    async def read() -> list[Record]:
        command = ["sh", "-c", f"cat {printed}"]
        records: list[Record] = []
        async for batch in JournalSource("journal", FakeClock(), trust=trust, horizon=1800, command=command).batches():
            records += batch.records
            if len(records) >= len(lines):
                break
        return records

    matcher = Matcher(parsers, logouts=True)
    return [list(matcher.events(record, trust)) for record in asyncio.run(asyncio.wait_for(read(), 20))]


@pytest.mark.parametrize("log", LOGS, ids=lambda log: log.parts[-5])
def test_what_real_servers_wrote(log: Path, tmp_path: Path) -> None:
    unit = {"dovecot": "dovecot.service", "courier": "courier-imap-ssl.service"}[log.parts[-5]]
    found = events(log, tmp_path, unit)
    assert len(found) == len(log.read_text().splitlines())
    labels = [json.loads(line) for line in log.with_name("rfc3164.expected.jsonl").read_text().splitlines()]
    logins = [label for label in labels if label["kind"] == "login"]
    assert len(logins) > 40
    for label in logins:
        said = [(event.kind, event.address, event.service) for event in found[label["n"] - 1]]
        expected = [(LOGIN, label["ip"], label["service"])] if label.get("extractable", True) else []
        assert said == expected or (label.get("hostile") and not said), label
    told = {label["n"]: label["ip"] for label in labels}
    for number, events_ in enumerate(found, 1):
        assert {event.address for event in events_} <= {told.get(number), None} - FORGED
        assert not events_ or number in told


@pytest.mark.parametrize("log", LOGS, ids=lambda log: log.parts[-5])
def test_the_same_from_anybody_else_grants_nothing(log: Path, tmp_path: Path) -> None:
    assert not any(events(log, tmp_path, "session-7.scope"))
