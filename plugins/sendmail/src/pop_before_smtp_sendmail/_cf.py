"""Asking sendmail: its sendmail.cf, and the commands sendmail(8) and makemap(8)."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

from attrs import frozen

SBIN = ("/usr/sbin", "/usr/local/sbin", "/sbin")
"""Where the commands are although PATH may not say so."""
TIMEOUT = 10.0
"""Seconds that a command may take; they need 0.02."""

_LINE = re.compile(r"^K(?P<name>\S+)[ \t]+(?P<kind>[a-z]+)[ \t]*(?P<rest>.*)$", re.MULTILINE)


class CommandError(Exception):
    """A command is missing, failed or was too slow; one line says which and why."""


@frozen
class Declared:
    """A map as a K line declares it: ``Kaccess hash -T<TMPF> /etc/mail/access``."""

    kind: str
    words: tuple[str, ...]
    """What follows the class, without options: the file, or the members of a sequence."""

    @property
    def file(self) -> Path | None:
        """The file that sendmail opens; None for a map in no file."""
        if len(self.words) != 1 or not self.words[0].startswith("/"):
            return None
        return file_of(self.kind, self.words[0])


def file_of(kind: str, path: str) -> Path:
    """Return the file behind a map of class ``hash``, ``btree`` (sendmail adds ``.db``) or ``text``."""
    suffix = "" if kind == "text" or path.endswith(".db") else ".db"
    return Path(os.path.normpath(path) + suffix)


def declared(config_file: str) -> dict[str, Declared]:
    """Return the maps that sendmail.cf declares, by name.

    Raises:
        OSError: it cannot be read.
    """
    text = os.fsdecode(Path(config_file).read_bytes())
    return {
        match["name"]: Declared(
            match["kind"], tuple(word for word in match["rest"].split() if not word.startswith(("-", "#")))
        )
        for match in _LINE.finditer(text)
    }


def ask(command: str, *arguments: str, text: str = "") -> str:
    """Return what ``sendmail`` or ``makemap`` prints, given ``text`` as its standard input.

    Raises:
        CommandError: it did not exit with 0 in time.
    """
    program = shutil.which(command, path=os.pathsep.join((os.environ.get("PATH", os.defpath), *SBIN)))
    if program is None:
        raise CommandError(f"{command} is not installed")
    try:
        done = subprocess.run(
            (program, *arguments),
            input=text.encode(),
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
