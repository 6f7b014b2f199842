"""Can a client begin a line in a log file? What this machine's syslog daemons are set to tells.

Some servers pass on to syslog a newline that a client sends before its login. rsyslog writes it as ``#012`` unless its
configuration forbids that. syslog-ng (3.38) begins a line with what follows, except where the source takes datagrams
and has the flag ``no-multi-line``, which turns it into a blank: streams are split before they are looked at,
``system()`` takes the flag but does not heed it, ``systemd-journal()`` does not know it. The daemons of busybox and of
GNU inetutils always write a blank.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from attrs import frozen

_PROGRAMS = ("usr/sbin", "usr/bin", "sbin", "usr/local/sbin")
_COMMENT = re.compile(r"^\s*#.*", re.MULTILINE)

_OFF = re.compile(r'(?:escapeControlCharactersOnReceive|escapeLF)(?:\s*=\s*|\s+)"?(?:off|no|0)', re.IGNORECASE)
_WORD = re.compile(r""""(?:[^"\\]|\\.)*"|'[^']*'|#[^\n]*|[\w-]+|[(){};]""", re.DOTALL)
_FLAG = re.compile(r"""\bflags \( [^)]*\bno[-_]multi[-_]line\b""")
_UDP = re.compile(r"""\btransport \( ["']?udp\b""")
_KERNEL = re.compile(r"""(?:file|pipe) \( ["']/(?:proc|dev)/kmsg["']""")

_SPLITS = "lets clients begin lines of their own, so nothing is granted from it; {}"
_UNREADABLE = "this user cannot ask, so nothing is granted from it; let it read {}"
_FLAGGED = "set flags(no-multi-line) in its sources"
_NO_FLAG = (
    "its source {}() lets them whatever its flags are, so have unix-dgram() with flags(no-multi-line) in its place, "
    "or have it send to a source with listen"
)


def doubt(path: Path, root: Path = Path("/")) -> str | None:
    """Return why clients may be able to begin lines in a log file and what to do about it; None if nothing says so.

    What counts is the daemon whose configuration names the file; where none does, each that is installed.

    Args:
        path: the file.
        root: where the daemons and their configurations are looked for.
    """
    found: list[tuple[str, str, str | None]] = []  # name, configuration, what speaks against it
    for daemon in _DAEMONS:
        try:
            if (text := daemon.configuration(root)) is not None:
                cure = daemon.cure(text)
                found.append((daemon.name, text, cure and _SPLITS.format(cure)))
        except OSError as error:
            found.append((daemon.name, "", _UNREADABLE.format(error.filename)))
    naming = [each for each in found if _names(each[1], path)]
    secret = [each for each in found if not each[1]]
    for name, _, reason in secret + (naming or found):
        if reason:
            verb = "is" if naming and not secret else "may be"
            return f"{path} {verb} written by {name}, which {reason}, or escaped = true if you know better"
    return None


def _names(text: str, path: Path) -> bool:
    """Return whether a configuration has the path of a file in it."""
    spellings = "|".join({re.escape(str(path)), re.escape(str(path.resolve()))})
    return re.search(rf"(?<![\w/])(?:{spellings})(?![\w./-])", text) is not None


def _rsyslog(text: str) -> str | None:
    found = _OFF.search(text)
    return f"remove {found[0]} from its configuration" if found else None


def _syslog_ng(text: str) -> str | None:
    drivers = list(_drivers(text))
    for driver in drivers:
        kind = driver.split(" ")[0].replace("_", "-")
        datagrams = kind in {"unix-dgram", "udp", "udp6"} or (kind in {"network", "syslog"} and _UDP.search(driver))
        if kind == "internal" or _KERNEL.match(driver) or (datagrams and _FLAG.search(driver)):
            continue
        return _FLAGGED if datagrams else _NO_FLAG.format(kind)
    return None if drivers else _FLAGGED


def _drivers(text: str) -> Iterator[str]:
    """Yield what stands in syslog-ng's ``source`` blocks, each driver with its arguments, a blank between words."""
    sources: list[bool] = []  # of the blocks that are open
    parentheses = 0
    driver: list[str] = []
    before = ["", ""]
    for word in _WORD.findall(text):
        if word.startswith("#"):
            continue
        parentheses += (word == "(") - (word == ")")
        driver.append(word)
        if parentheses:
            continue
        if word == ")" and any(sources):
            yield " ".join(driver)
        elif word == "{":
            sources.append("source" in before or any(sources))
        elif word == "}" and sources:
            sources.pop()
        if word in "){};":
            driver = []
        before = [before[1], word]


@frozen
class _Daemon:
    """A syslog daemon that can be set to let a client begin a line."""

    name: str
    program: str
    main: str
    """Its configuration."""
    include: re.Pattern[str]
    """What includes another file there; the first group that is set names it."""
    cure: Callable[[str], str | None]
    """Takes the configuration's text and says what is to be changed in it, if anything."""

    def configuration(self, root: Path) -> str | None:
        """Return all of its configuration; None where it is not installed.

        Raises:
            OSError: part of it may not be read, or it is elsewhere.
        """
        if any((root / folder / self.program).exists() for folder in _PROGRAMS):
            return self._text(root, root / self.main, set())
        return None

    def _text(self, root: Path, file: Path, seen: set[Path]) -> str:
        seen.add(file)
        text = _COMMENT.sub("", file.read_text(errors="replace"))

        def included(found: re.Match[str]) -> str:
            name = next(filter(None, found.groups()))
            place = root / name.lstrip("/") if name.startswith("/") else root / Path(self.main).parent / name
            if place.name == "scl.conf":  # definitions that come with syslog-ng
                return ""
            return "\n".join(self._text(root, each, seen) for each in _matching(place) if each not in seen)

        return self.include.sub(included, text)


def _matching(pattern: Path) -> list[Path]:
    """Return the files that an include means: one, those that fit a pattern, or those in a folder."""
    if pattern.is_dir():
        pattern /= "*.conf"
    if pattern.parent.is_dir() and not os.access(pattern.parent, os.R_OK | os.X_OK, effective_ids=True):
        raise PermissionError(None, None, str(pattern.parent))
    return sorted(each for each in pattern.parent.glob(pattern.name) if each.is_file())


_DAEMONS = (
    _Daemon(
        "rsyslog",
        "rsyslogd",
        "etc/rsyslog.conf",
        re.compile(
            r'^\s*\$IncludeConfig\s+(\S+)|\binclude\s*\([^)]*?\bfile\s*=\s*"([^"]+)"', re.MULTILINE | re.IGNORECASE
        ),
        _rsyslog,
    ),
    _Daemon(
        "syslog-ng",
        "syslog-ng",
        "etc/syslog-ng/syslog-ng.conf",
        re.compile(r"""^\s*@include\s+["']?([^"'\s]+)["']?""", re.MULTILINE),
        _syslog_ng,
    ),
)
