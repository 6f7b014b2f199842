"""What packaging/ installs, with systemd's own tools: the sandbox's score, the units, the user, the folders."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator

import pytest
from daemon import PROGRAM
from lab import CHECKOUT, Lab

PACKAGING = CHECKOUT / "packaging"
UNITS = ("pop-before-smtp.service", "pop-before-smtp-purge.service", "pop-before-smtp-purge.timer")
SERVICES = [unit for unit in UNITS if unit.endswith(".service")]


# Runs systemd as the first process of namespaces of its own. $1: the target to start.
BOOT = """
mount --rbind / /mnt
cd /mnt
mount -t proc proc proc
mount -t sysfs sysfs sys
mount -t cgroup2 cgroup sys/fs/cgroup
mkdir -p dev/pts
mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts
ln -s pts/ptmx dev/ptmx
mkdir -p old
pivot_root . old
umount -l old
export container=lab
exec /lib/systemd/systemd --system --unit="$1"
"""
# The interpreter and the checkout may lie where the sandbox hides them.
REACHABLE = """
[Service]
ProtectHome=tmpfs
BindReadOnlyPaths={paths}
StandardOutput=append:/run/pop-before-smtp.log
StandardError=append:/run/pop-before-smtp.log
"""
CONFIG = (
    """
plugins = ["dovecot", "postfix"]
[[source]]
path = "/var/log/mail.log"
"""
    + "".join(
        f'[[writer]]\nuse = "postfix"\nmap = "{kind}:/var/lib/pop-before-smtp/{kind}"\n'
        for kind in ("lmdb", "cdb", "hash", "btree")
    )
    + """
[[writer]]
use = "postfix"
map = "socketmap:unix:/var/spool/postfix/pop-before-smtp/relay"
[[writer]]
use = "postfix"
map = "socketmap:inet:127.0.0.1:7777"
"""
)
LOGIN = "dovecot: imap-login: Login: user=<ann>, method=PLAIN, rip=203.0.113.5, lip=198.51.100.1, mpid=7, session=<a>"
LAB_UNIT = """
[Unit]
SuccessAction=poweroff-force
FailureAction=poweroff-force
[Service]
Type=oneshot
ExecStart=sh /run/steps
StandardOutput=append:/run/said
StandardError=append:/run/said
"""
# Each step says in one line what the service is.
STEPS = f"""
unit=pop-before-smtp.service
program=/opt/pop-before-smtp/bin/pop-before-smtp
show() {{ systemctl show --value --property="$1" $unit; }}
ask() {{ postmap -q 203.0.113.5 "socketmap:$1:x"; }}
look() {{ echo "$1: $(show Result) $(show ActiveState)"; }}
leases() {{ $program list --json | tr -d ' \\n' | grep -o '"address":"[^"]*"' | sort -u; }}
eventually() {{ for _ in $(seq 100); do "$@" && return; sleep 0.2; done; echo "never: $*"; }}
up_again() {{ [ "$(show NRestarts) $(show ActiveState)" = "1 active" ]; }}

systemctl start $unit; look start
echo "$(date --iso-8601=seconds) mx {LOGIN}" >> /var/log/mail.log
eventually leases
eventually ask unix:/var/spool/postfix/pop-before-smtp/relay
eventually ask inet:127.0.0.1:7777
stat -c '%a %U %n' /var/spool/postfix/pop-before-smtp/relay
systemctl reload $unit; sleep 1; look reload
systemctl kill --signal=KILL $unit; eventually up_again; look killed
leases
systemctl stop $unit; look stop
unit=pop-before-smtp-purge.service
systemctl start $unit; look purge
stat -c '%a %U %n' /var/lib/pop-before-smtp/*
"""
SAID = """
start: success active
"address":"203.0.113.5"
OK
OK
666 pop-before-smtp /var/spool/postfix/pop-before-smtp/relay
reload: success active
killed: success active
"address":"203.0.113.5"
stop: success inactive
purge: success inactive
640 pop-before-smtp /var/lib/pop-before-smtp/btree.db
640 pop-before-smtp /var/lib/pop-before-smtp/cdb.cdb
640 pop-before-smtp /var/lib/pop-before-smtp/hash.db
640 pop-before-smtp /var/lib/pop-before-smtp/lmdb.lmdb
750 pop-before-smtp /var/lib/pop-before-smtp/state
""".strip().splitlines()


@pytest.fixture(scope="module")
def installed(new_lab: type[Lab]) -> Iterator[Lab]:
    """Give a lab in which the commands of packaging/README.md have been run."""
    with new_lab("systemd", "logrotate", "postfix", "postfix-lmdb", "postfix-cdb") as lab:
        commands = re.search(r"```sh\n(.*?)```", (PACKAGING / "README.md").read_text(), re.DOTALL)
        assert commands
        lab.sh(f"mkdir -p /opt/pop-before-smtp/bin; ln -s {PROGRAM} /opt/pop-before-smtp/bin")
        lab.sh(f"cd {CHECKOUT}; {commands[1]}")
        yield lab


@pytest.mark.system
@pytest.mark.parametrize("unit", SERVICES)
def test_sandbox_is_tight(installed: Lab, unit: str) -> None:
    report = installed.run("systemd-analyze", "security", "--offline=true", f"/etc/systemd/system/{unit}").stdout
    exposure = re.search(r"Overall exposure level for \S+: ([\d.]+)", report)
    assert exposure, report
    assert float(exposure[1]) <= 2.0, report


@pytest.mark.system
def test_units_are_right(installed: Lab) -> None:
    verdict = installed.run("systemd-analyze", "verify", *(f"/etc/systemd/system/{unit}" for unit in UNITS))
    assert [line for line in verdict.stderr.splitlines() if "pop-before-smtp" in line] == []


@pytest.mark.system
def test_user_and_folders(installed: Lab) -> None:
    assert "adm" in installed.run("id", "-nG", "pop-before-smtp").stdout.split()
    paths = [f"/var/lib/{folder}" for folder in ("pop-before-smtp", "pop-before-smtp/state")]
    folders = installed.run("stat", "-c", "%a %U:%G", *paths, "/var/spool/postfix/pop-before-smtp")
    owner = "pop-before-smtp:pop-before-smtp"
    assert folders.stdout.splitlines() == [f"755 {owner}", f"750 {owner}", "710 pop-before-smtp:postfix"]


@pytest.mark.system
def test_logrotate_takes_our_snippet(installed: Lab) -> None:
    installed.sh("install -d -m 750 -o pop-before-smtp -g adm /var/log/pop-before-smtp")
    verdict = installed.run("logrotate", "--debug", "/etc/logrotate.d/pop-before-smtp")
    assert "error" not in verdict.stderr


@pytest.mark.system
def test_services_work_in_their_sandbox(installed: Lab) -> None:
    """With a real systemd: user, folders, system call filter and all."""
    paths = " ".join({str(CHECKOUT), sys.prefix} | ({sys.base_prefix} - {"/usr"}))
    for unit in SERVICES:
        installed.write(f"/etc/systemd/system/{unit}.d/lab.conf", REACHABLE.format(paths=paths))
    installed.write("/etc/pop-before-smtp.toml", CONFIG)
    installed.sh("install -m 640 -g adm /dev/null /var/log/mail.log")
    installed.write("/etc/systemd/system/lab.service", LAB_UNIT)
    installed.write("/run/steps", STEPS)
    namespaces = ["--mount", "--pid", "--cgroup", "--fork", "--kill-child"]
    installed.run("timeout", "120", "unshare", *namespaces, "sh", "-euc", BOOT, "sh", "lab.service", check=False)
    log = installed.path("/run/pop-before-smtp.log").read_text()
    said = installed.path("/run/said").read_text()
    assert said.splitlines() == SAID, log
    assert "cannot" not in log  # postconf was asked in the sandbox, too


def test_both_services_have_one_sandbox() -> None:
    sandboxes = {
        (PACKAGING / unit).read_text().partition("# Sandbox.")[2].partition("[Install]")[0] for unit in SERVICES
    }
    assert len({sandbox.strip() for sandbox in sandboxes}) == 1
    assert "SystemCallFilter" in sandboxes.pop()
