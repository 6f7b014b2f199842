"""What packaging/ installs, with systemd's own tools: the sandbox's score, the units, the user, the folders."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from lab import CHECKOUT, Lab

PACKAGING = CHECKOUT / "packaging"
UNITS = ("pop-before-smtp.service", "pop-before-smtp-purge.service", "pop-before-smtp-purge.timer")
SERVICES = [unit for unit in UNITS if unit.endswith(".service")]


@pytest.fixture(scope="module")
def installed(new_lab: type[Lab]) -> Iterator[Lab]:
    """Give a lab in which the commands of packaging/README.md have been run."""
    with new_lab("systemd", "logrotate") as lab:
        commands = re.search(r"```sh\n(.*?)```", (PACKAGING / "README.md").read_text(), re.DOTALL)
        assert commands
        lab.write("/opt/pop-before-smtp/bin/pop-before-smtp", "#!/bin/sh\n", 0o755)
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
    folders = installed.run("stat", "-c", "%a %U:%G", "/var/lib/pop-before-smtp", "/var/lib/pop-before-smtp/state")
    owner = "pop-before-smtp:pop-before-smtp"
    assert folders.stdout.splitlines() == [f"755 {owner}", f"750 {owner}"]


@pytest.mark.system
def test_logrotate_takes_our_snippet(installed: Lab) -> None:
    installed.sh("install -d -m 750 -o pop-before-smtp -g adm /var/log/pop-before-smtp")
    verdict = installed.run("logrotate", "--debug", "/etc/logrotate.d/pop-before-smtp")
    assert "error" not in verdict.stderr


def test_both_services_have_one_sandbox() -> None:
    sandboxes = {
        (PACKAGING / unit).read_text().partition("# Sandbox.")[2].partition("[Install]")[0] for unit in SERVICES
    }
    assert len({sandbox.strip() for sandbox in sandboxes}) == 1
    assert "SystemCallFilter" in sandboxes.pop()
