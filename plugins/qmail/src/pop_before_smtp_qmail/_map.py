"""The cdb for ``tcpserver -x``: the administrator's rules, and one more for each client that has a lease."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from itertools import chain
from pathlib import Path

from attrs import frozen
from pop_before_smtp.errors import ConfigError
from pop_before_smtp.maps.cdb import CdbMap

from ._rules import Rules, RulesError, read, relays, variables

_QMAIL = ("/var/qmail/bin/qmail-smtpd", "/usr/sbin/qmail-smtpd")
_RULES = "/etc/tcp.smtp"

Item = tuple[bytes, bytes]


@frozen(kw_only=True)
class Settings:
    """The keys of a ``[[writer]]`` that uses ``qmail``."""

    map: str
    """``cdb:`` and the file that ``tcpserver -x`` names."""
    rules: str = _RULES
    """The administrator's own rules, as tcprules(1) reads them."""
    value: str = 'RELAYCLIENT=""'
    """What tcpserver sets for a client with a lease, spelt as in a rule."""


class TcpserverMap(CdbMap):
    """Rules and leases in one cdb; every user may read it, for tcpserver has given up being root when it does.

    The rules stand first and in their order, so that what they say of one address counts. A lease sets what the rules
    would have set for its address, and its own variables after that; in a network that is denied it changes nothing. An
    IPv6 address that ends in zeros gets none, for there is no rule that is for it alone.

    Args:
        path: the cdb.
        rules: the administrator's rules.
        variables: what a lease sets, as in a value of the cdb.

    Raises:
        RulesError: the rules cannot be read.
    """

    failures = (OSError, RulesError)

    def __init__(self, path: Path, rules: Path, variables: bytes) -> None:
        super().__init__(path, mode=0o644)
        self.rules = Rules()
        self._file = rules
        self._variables = variables
        self._seen: tuple[int, ...] = ()
        self.refresh()

    def refresh(self) -> bool:
        """Read the rules again if their file is another than the one that was read.

        Raises:
            RulesError: they cannot be read; the last ones stay.
        """
        try:
            now = self._file.stat()
        except OSError as error:
            raise RulesError(f"{self._file} cannot be read: {error.strerror}") from error
        seen = (now.st_dev, now.st_ino, now.st_size, now.st_mtime_ns, now.st_ctime_ns)
        if seen == self._seen:
            return False
        self.rules = read(self._file)
        self._seen = seen
        return True

    def items(self, keys: AbstractSet[str]) -> Iterable[Item]:
        """Return the rules, then the leases."""
        return chain(self.rules.items, chain.from_iterable(map(self._lease, keys)))

    def _lease(self, address: str) -> Iterator[Item]:
        names = spellings(address)
        if names[0].endswith(":"):  # tcpserver takes such a key for the beginning of other addresses, too
            return
        for key in map(str.encode, names):
            if key not in self.rules.first and (wider := self.rules.wider(key)) is not None:
                yield key, wider + self._variables


def spellings(address: str) -> tuple[str, ...]:
    """Return how tcpserver may spell a canonical address: it shortens a single zero of IPv6, too."""
    if "." in address or "::" in address:
        return (address,)
    groups = address.split(":")
    if "0" not in groups:
        return (address,)
    at = groups.index("0")
    return ":".join(groups[:at]) + "::" + ":".join(groups[at + 1 :]), address


def open_map(settings: Settings) -> TcpserverMap:
    """Return the map that the settings name; nothing on disk is touched.

    Raises:
        ConfigError: a path or the value cannot be used, or the rules cannot be read.
    """
    problems = [*_path_problems(settings)]
    try:
        value = _value(settings.value)
    except RulesError as error:
        problems.append(f"value: {error}")
        raise ConfigError(*problems) from error
    if problems:
        raise ConfigError(*problems)
    try:
        target = TcpserverMap(Path(_path(settings)), Path(settings.rules), value)
    except RulesError as error:
        raise ConfigError(f"rules: {error}") from error
    if names := [key.decode("latin-1") for key in target.rules.first if key.startswith(b"=")]:
        warnings.warn(f"rules: what {names[0]} says does not count for a client with a lease", stacklevel=2)
    return target


def defaults(directory: Path) -> Mapping[str, object] | None:
    """Return the settings where qmail-smtpd and /etc/tcp.smtp are on this machine, else None."""
    if Path(_RULES).is_file() and any(map(os.path.exists, _QMAIL)):
        return {"map": f"cdb:{directory / 'tcp.smtp.cdb'}"}
    return None


def _path(settings: Settings) -> str:
    return os.path.normpath(settings.map.removeprefix("cdb:"))


def _path_problems(settings: Settings) -> Iterator[str]:
    kind, _, path = settings.map.partition(":")
    if kind != "cdb" or not path.startswith("/") or path.endswith("/"):
        example = "cdb:/var/lib/pop-before-smtp/tcp.smtp.cdb"
        yield f"map: {settings.map!r} is not cdb: and the absolute path of a file; write for example {example}"
    if not settings.rules.startswith("/"):
        yield f"rules: {settings.rules!r} is no absolute path of a file"
    elif os.path.realpath(settings.rules) == os.path.realpath(_path(settings)):
        yield f"rules: {settings.rules} is the map itself; name the text that tcprules makes it from"


def _value(text: str) -> bytes:
    found = variables(text.encode())
    if not relays(found):
        raise RulesError(f"{text!r} does not set RELAYCLIENT, so it permits nothing")
    return found
