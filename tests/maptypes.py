"""Every type of map as its plugin opens it, and how to read it: what must hold for all of them is tested for each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from ipaddress import ip_address
from pathlib import Path

import pytest
from attrs import frozen
from pop_before_smtp._config import Config, build
from pop_before_smtp.api import Map
from pop_before_smtp.maps import bdb, cdb, lmdb, text
from pop_before_smtp_sendmail._keys import canonical

Entries = Mapping[bytes, bytes]
LEASE = b"+RELAYCLIENT=\0"
RULES = '127.:allow,RELAYCLIENT=""\n198.18.:deny\n:allow\n'
STATIC = {b"127.": LEASE, b"198.18.": b"D\0", b"": b""}
PLACEHOLDER = b"127.0.0.1"


def _lines(path: Path) -> Entries:
    """Read a text file of keys and values."""
    return {key: value for key, _, value in (line.replace(b"\t", b" ").partition(b" ") for line in text.read(path))}


def _plain(entries: Entries) -> set[str]:
    return {key.rstrip(b"\0").decode() for key in entries}


def _sendmail(entries: Entries) -> set[str]:
    return {canonical(key.removeprefix(b"connect:")).decode() for key in entries}


def _opensmtpd(entries: Entries) -> set[str]:
    assert PLACEHOLDER in entries, "smtpd does not start with an empty table"
    return _plain(entries) - {PLACEHOLDER.decode()}


def _qmail(entries: Entries) -> set[str]:
    assert {key: entries[key] for key in STATIC} == STATIC
    return {str(ip_address(key.decode())) for key in entries.keys() - STATIC.keys()}


def _courier(entries: Entries) -> set[str]:
    return {str(ip_address(key.decode().removeprefix(":"))) for key in entries}


@frozen
class MapType:
    """One type of map.

    Args:
        use: the writer.
        map: the key of that name, without the directory.
        suffix: what the mail server adds to the path.
        read: returns all that is in a file.
        addresses: returns the addresses of that; AssertionError if what always stays is not there.
        more: other keys of the ``[[writer]]``.
    """

    use: str
    map: str
    suffix: str
    read: Callable[[Path], Entries]
    addresses: Callable[[Entries], set[str]] = _plain
    more: str = ""

    def path(self, directory: Path) -> Path:
        """Return the file that the mail server opens."""
        return directory / f"map{self.suffix}"

    def keys(self, directory: Path) -> dict[str, str]:
        """Return the keys of a ``[[writer]]`` for a map in this directory."""
        more = [pair.split("=") for pair in self.more.split()]
        return {"use": self.use, "map": f"{self.map}:{directory}/map"} | {
            key: value.format(directory.parent) for key, value in more
        }

    def open(self, directory: Path) -> Map:
        """Open the map as the daemon does; nothing on disk is touched."""
        writer = config(directory.parent, self.keys(directory)).writers[0]
        target = writer.writer.open(writer.settings)
        assert isinstance(target, Map)
        return target

    def holds(self, directory: Path) -> set[str]:
        """Return the addresses in the map; OSError if there is none."""
        return self.addresses(self.read(self.path(directory)))


TYPES = {
    "lmdb": MapType("postfix", "lmdb", ".lmdb", lmdb.read),
    "cdb": MapType("postfix", "cdb", ".cdb", cdb.read),
    "hash": MapType("postfix", "hash", ".db", bdb.read),
    "btree": MapType("postfix", "btree", ".db", bdb.read),
    "hosts": MapType("exim", "hosts", "", _lines),
    "table": MapType("opensmtpd", "file", "", _lines, _opensmtpd),
    "popauth": MapType("sendmail", "hash", ".db", bdb.read, _sendmail),
    "popauth.txt": MapType("sendmail", "text", "", _lines, _sendmail),
    "access": MapType("sendmail", "btree", ".db", bdb.read, _sendmail, "form=access"),
    "tcp.smtp": MapType("qmail", "cdb", "", cdb.read, _qmail, "rules={}/rules"),
    "smtpaccess": MapType("courier", "smtpaccess", "", _lines, _courier),
}


def config(folder: Path, *writers: Mapping[str, object], **keys: object) -> Config:
    """Return a configuration with Dovecot's log and the state in a folder; no mail server is asked for netblocks."""
    base = {
        "plugins": ["dovecot", *sorted({str(writer["use"]) for writer in writers})],
        "state_dir": str(folder / "state"),
        "source": [{"path": str(folder / "mail.log")}],
        "writer": [{"netblocks": [], **writer} for writer in writers],
    }
    return build(base | keys)


def furnish(folder: Path) -> str:
    """Make a directory for each type of map, a log, and commands that say that all is well; return the PATH for them."""
    commands = folder / "bin"
    commands.mkdir()
    for name in ("smtpctl", "makesmtpaccess"):
        (commands / name).symlink_to("/bin/true")
    (commands / "postconf").write_text("#!/bin/sh\necho lmdb cdb hash btree\n")
    (commands / "postconf").chmod(0o755)
    (folder / "rules").write_text(RULES)
    (folder / "mail.log").touch()
    for name in TYPES:
        (folder / name).mkdir(mode=0o755)
    return f"{commands}:/usr/bin:/bin"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a folder with all that maps need."""
    monkeypatch.setenv("PATH", furnish(tmp_path))
    return tmp_path
