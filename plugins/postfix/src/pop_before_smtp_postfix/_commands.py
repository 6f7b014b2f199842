"""Asking Postfix: postconf(1) and postmap(1)."""

from __future__ import annotations

import os
import shutil
import subprocess

SBIN = ("/usr/sbin", "/usr/local/sbin", "/sbin")
"""Where the commands are although PATH may not say so."""
TIMEOUT = 10.0
"""Seconds that a command may take; postconf needs 0.02."""


class CommandError(Exception):
    """A command is missing, failed or was too slow; one line says which and why."""


class MissingError(CommandError):
    """The command is not on this machine."""


def ask(command: str, *arguments: str, config_directory: str = "") -> str:
    """Return what ``postconf`` or ``postmap`` prints.

    Args:
        command: its name.
        arguments: options and operands, each by itself; no shell sees them.
        config_directory: where main.cf is, if not where Postfix was built to look.

    Raises:
        CommandError: it did not exit with 0 in time.
    """
    program = shutil.which(command, path=os.pathsep.join((os.environ.get("PATH", os.defpath), *SBIN)))
    if program is None:
        raise MissingError(f"{command} is not installed")
    instance = ("-c", config_directory) if config_directory else ()
    try:
        done = subprocess.run(
            (program, *instance, *arguments),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            timeout=TIMEOUT,
            env=os.environ | {"LC_ALL": "C"},
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CommandError(f"{command} {' '.join(arguments)}: {error}") from error
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines() or [f"exit status {done.returncode}"]
        raise CommandError(f"{command} {' '.join(arguments)}: {said[-1]}")
    return os.fsdecode(done.stdout)
