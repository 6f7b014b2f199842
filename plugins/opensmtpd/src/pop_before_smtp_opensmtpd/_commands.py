"""Telling a running smtpd to read a table again: smtpctl(8)."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

SBIN = ("/usr/sbin", "/usr/local/sbin")
"""Where the command is although PATH may not say so."""
TIMEOUT = 5.0
"""Seconds that it may take; it needs 0.004."""
PROC = Path("/proc")

_NOT_RUNNING = "doesn't seem to be running"


class CommandError(Exception):
    """smtpctl is missing, failed or was too slow; one line says which and why."""


def program() -> str | None:
    """Return the path of smtpctl; None if it is not on this machine."""
    return shutil.which("smtpctl", path=os.pathsep.join((os.environ.get("PATH", os.defpath), *SBIN)))


def update_table(name: str) -> None:
    """Make smtpd read a table again. Where there is no smtpd, nothing is to be done: it reads its tables at its start.

    Raises:
        CommandError: smtpd may have the old table still.
    """
    smtpctl = program()
    if smtpctl is None:
        raise CommandError("smtpctl is not installed")
    argv = (smtpctl, "update", "table", name)
    try:
        done = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            timeout=TIMEOUT,
            env=os.environ | {"LC_ALL": "C"},
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CommandError(f"{' '.join(argv)}: {error}") from error
    said = (done.stdout + done.stderr).decode(errors="replace").strip().splitlines() or [f"exit {done.returncode}"]
    if done.returncode and not (_NOT_RUNNING in said[-1] and not _starting()):
        raise CommandError(f"{' '.join(argv)}: {said[-1]}")


def _starting() -> bool:
    """Tell whether there is an smtpd after all: one that just starts has read its tables, and cannot be asked yet."""
    for name in PROC.glob("[0-9]*/comm"):
        try:
            if name.read_bytes() == b"smtpd\n":
                return True
        except OSError:  # it has ended
            continue
    return False
