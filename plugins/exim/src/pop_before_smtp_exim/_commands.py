"""Asking exim for its configuration."""

from __future__ import annotations

import os
import shutil
import subprocess

NAMES = ("exim4", "exim")
"""What the program is called: on Debian, and elsewhere."""
SBIN = ("/usr/sbin", "/usr/local/sbin", "/usr/exim/bin")
"""Where it is although PATH may not say so."""
TIMEOUT = 10.0
"""Seconds that it may take; it needs 0.02."""


class CommandError(Exception):
    """Exim is missing, failed or was too slow; one line says which and why."""


def program() -> str | None:
    """Return the path of exim; None if it is not on this machine."""
    path = os.pathsep.join((os.environ.get("PATH", os.defpath), *SBIN))
    return next(filter(None, (shutil.which(name, path=path) for name in NAMES)), None)


def configuration() -> str:
    """Return what ``exim -bP config`` prints: the whole configuration, macros expanded, an option a line.

    Every user may ask; one whom exim does not trust sees macros and options marked ``hide`` without their values.

    Raises:
        CommandError: it did not exit with 0 in time.
    """
    exim = program()
    if exim is None:
        raise CommandError("exim is not installed")
    try:
        done = subprocess.run(
            (exim, "-bP", "config"),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            timeout=TIMEOUT,
            env=os.environ | {"LC_ALL": "C"},
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CommandError(f"{exim} -bP config: {error}") from error
    if done.returncode:
        said = done.stderr.decode(errors="replace").split("\n")[0].strip() or f"exit status {done.returncode}"
        raise CommandError(f"{exim} -bP config: {said}")
    return os.fsdecode(done.stdout)
