"""The lab itself: it holds what the other tests rely on, and leaves nothing behind."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from clients import LOCAL, asked, imap, pop
from lab import CHECKOUT, Lab, eventually
from servers import MYNETWORKS_CLIENTS, PORTS, STATE

pytestmark = pytest.mark.system

HOLDER = "import lab; machine = lab.Lab(); print(machine.pid, flush=True); machine.run('sleep', '60')"


@pytest.mark.usefixtures("new_lab")
def test_a_killed_test_process_takes_its_lab_with_it() -> None:
    holder = subprocess.Popen([sys.executable, "-c", HOLDER], cwd=CHECKOUT / "tests", stdout=subprocess.PIPE, text=True)
    assert holder.stdout
    with holder, holder.stdout:
        lab = Path(f"/proc/{holder.stdout.readline().strip()}/root/etc")
        assert lab.exists()
        holder.kill()
    eventually(lambda: not lab.exists())


def test_what_a_lab_writes_stays_in_it(new_lab: type[Lab]) -> None:
    with new_lab() as lab:
        lab.write("/etc/lab-was-here", "text")
        assert lab.run("cat", "/etc/lab-was-here").stdout == "text"
        assert not Path("/etc/lab-was-here").exists()


def test_dovecot_and_postfix_alone(dovecot_lab: Lab, address: Callable[[int], str]) -> None:
    relay_is_for_mynetworks(dovecot_lab, address)
    assert [login(dovecot_lab, address(6), tls=tls) for login in (imap, pop) for tls in TLS] == [True] * 6
    assert not imap(dovecot_lab, address(4), password="wrong")  # noqa: S106


def test_courier_and_postfix_alone(courier_lab: Lab, address: Callable[[int], str]) -> None:
    relay_is_for_mynetworks(courier_lab, address)
    assert [login(courier_lab, address(6), tls=tls) for login in (imap, pop) for tls in TLS] == [True] * 6


TLS = ("", "starttls", "implicit")


def relay_is_for_mynetworks(lab: Lab, address: Callable[[int], str]) -> None:
    for kind, port in PORTS.items():
        lab.sh(f"cd {STATE}; : > {kind}; postmap {kind}:{kind}; rm {kind}")
        for version in (4, 6):
            client = address(version)
            assert asked(lab, client, port) == 554
            assert asked(lab, client, port, LOCAL) == 250
        assert [asked(lab, client, port) for client in MYNETWORKS_CLIENTS] == [250, 250]
    lab.sh(f"rm -r {STATE}; mkdir {STATE}")
