"""The file below Courier's smtpaccess that holds leases, and makesmtpaccess, which makes them count."""

from __future__ import annotations

import os
import shutil
import subprocess
import warnings
from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from ipaddress import ip_address, ip_network
from pathlib import Path

from attrs import frozen
from pop_before_smtp.api import Changes, Map, Network
from pop_before_smtp.errors import ConfigError, MapError
from pop_before_smtp.maps.text import TextMap

from ._access import ignored, key, others, whole

COMMAND = "makesmtpaccess"
SBIN = ("/usr/sbin", "/usr/local/sbin", "/usr/lib/courier/sbin", "/usr/local/lib/courier/sbin")
"""Where it is although PATH may not say so."""
TIMEOUT = 10.0
"""Seconds that it may take; it needs 0.03, with 20,000 addresses 0.06."""

_DIRECTORY = Path("/etc/courier/smtpaccess")
_NAME = "pop-before-smtp"
_VALUE = "\tallow,RELAYCLIENT"
_LOOPBACK = (ip_network("127.0.0.1"), ip_network("::1"))


@frozen(kw_only=True)
class Settings:
    """The writer's own keys in a ``[[writer]]``."""

    map: str
    """``smtpaccess:`` and the absolute path of a file below Courier's smtpaccess."""
    command: str = COMMAND
    """What compiles the files and tells couriertcpd."""


class AccessMap(TextMap):
    """Our file, and Courier's compiled one: a change counts when both are written.

    Args:
        path: the file.
        command: what compiles it.
    """

    def __init__(self, path: Path, command: str) -> None:
        super().__init__(path, value=_VALUE, key=key)
        self._command = command

    def items(self, keys: AbstractSet[str]) -> Iterable[tuple[bytes, bytes]]:
        """Return the lines, without those that another file has: makesmtpaccess fails where a key comes twice."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they were told at the start
            taken = [network for network, _ in others(self.path) if whole(network)] if keys else []
        return (self.item(text) for text in sorted(keys) if not taken or not _within(text, taken))

    def write(self, changes: Changes) -> None:
        """Replace the file, and have it compiled."""
        super().write(changes)
        self._compile()

    def clear(self) -> None:
        """Put the empty file in place, and have it compiled."""
        super().clear()
        self._compile()

    def _compile(self) -> None:
        if problem := _run(self._command):
            raise MapError(f"{self.path} is written, but Courier has the old entries: {problem}")


def open_map(settings: Settings) -> Map:
    """Return the map that the settings name; nothing on disk is touched.

    Raises:
        ConfigError: Courier could not use it.
    """
    if problems := list(_problems(settings)):
        raise ConfigError(*problems)
    return AccessMap(_file(settings), settings.command)


def defaults(directory: Path) -> Mapping[str, object] | None:  # noqa: ARG001 - Courier reads one directory only
    """Return the settings for a file in Courier's usual place; None without the Courier mail server."""
    if _program(COMMAND) is None or not _DIRECTORY.is_dir():
        return None
    return {"map": f"smtpaccess:{_DIRECTORY / _NAME}"}


def netblocks(settings: Settings) -> Iterator[tuple[Network, bool]]:
    """Yield (network, permitted) of the files beside ours, the longest first."""
    try:
        yield from others(_file(settings))
    except OSError as error:
        text = f"{_file(settings).parent} cannot be read, so only loopback counts as permitted: {error.strerror}"
        warnings.warn(text, stacklevel=2)
        yield from ((network, True) for network in _LOOPBACK)


def _within(text: str, networks: list[Network]) -> bool:
    address = ip_address(text)
    return any(address in network for network in networks)


def _file(settings: Settings) -> Path:
    return Path(os.path.normpath(settings.map.partition(":")[2]))


def _problems(settings: Settings) -> Iterator[str]:
    kind, _, path = settings.map.partition(":")
    example = f"smtpaccess:{_DIRECTORY / _NAME}"
    if kind != "smtpaccess":
        yield f"map: {settings.map!r} is no file below smtpaccess; write {example}"
    elif not path.startswith("/") or path.endswith("/"):
        yield f"map: {settings.map!r} needs the absolute path of a file, as {example}"
    elif ignored(Path(path).name):
        yield f"map: makesmtpaccess takes {path} for a backup and leaves it out; write for example {example}"
    if not settings.command:
        yield f"command: {settings.command!r} is no command; leave the key out for {COMMAND}"


def _run(command: str) -> str | None:
    """Run it; say in one line what went wrong."""
    program = _program(command)
    if program is None:
        return f"{command} is not installed"
    try:
        done = subprocess.run(
            (program,),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            timeout=TIMEOUT,
            env=os.environ | {"LC_ALL": "C"},
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    said = done.stderr.decode(errors="replace").strip().split("\n")[0]
    # where it cannot signal couriertcpd it says so and exits with 0; otherwise it says nothing
    return f"{command}: {said or f'exit status {done.returncode}'}" if said or done.returncode else None


def _program(command: str) -> str | None:
    return shutil.which(command, path=os.pathsep.join((os.environ.get("PATH", os.defpath), *SBIN)))
