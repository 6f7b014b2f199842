"""The clients that OpenSMTPD lets relay without a lease, as far as smtpd.conf shows them.

What cannot be listed is left out with a warning: its clients get leases that they do not need.
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterator
from ipaddress import ip_network
from pathlib import Path

from pop_before_smtp.api import Network

from ._config import Configuration, ConfigurationError, Rule, read, words
from ._maps import Settings, file_of

CONFIG_FILES = (
    "/etc/smtpd.conf",
    "/etc/mail/smtpd.conf",
    "/etc/opensmtpd/smtpd.conf",
    "/usr/local/etc/mail/smtpd.conf",
)
"""Where distributions have smtpd.conf."""

_NETWORK = re.compile(r"[0-9A-Fa-f.:]+(/[0-9]+)?")
_LOOPBACK = (ip_network("127.0.0.0/8"), ip_network("::1/128"))
_EVERYTHING = (ip_network("0.0.0.0/0"), ip_network("::/0"))


class UnlistableError(Exception):
    """A source whose addresses cannot be told; the text says why."""


def netblocks(settings: Settings) -> Iterator[tuple[Network, bool]]:
    """Yield (network, permitted) in the order of the rules for every recipient; the first match wins."""
    try:
        file = _config_file(settings)
        config = read(file)
    except ConfigurationError as error:
        _warn(f"only loopback counts as permitted: {error}")
        yield from ((network, True) for network in _LOOPBACK)
        return
    _report_table(config, settings, file)
    for rule in config.rules:
        if rule.source == f"<{settings.table}>" or not (rule.rejects or rule.plain):
            continue
        try:
            found = list(_networks(rule, config, file_of(settings.map).parent))
        except UnlistableError as error:
            rest = "all rules after it are left out" if rule.rejects else "clients there get leases they do not need"
            _warn(f"{file}: match {rule.text}: {error}; {rest}")
            if rule.rejects:
                return
        else:
            yield from ((network, not rule.rejects) for network in found)


def _config_file(settings: Settings) -> Path:
    files = [settings.config_file] if settings.config_file else filter(os.path.exists, CONFIG_FILES)
    for file in files:
        return Path(file)
    raise ConfigurationError("OpenSMTPD is not installed, or else name its smtpd.conf in config_file")


def _report_table(config: Configuration, settings: Settings, file: Path) -> None:
    """Warn where leases would not count."""
    table = " ".join(config.tables.get(settings.table, ()))
    if file_of(table) != file_of(settings.map) or table.partition(":")[0] != "file":
        line = f"table {settings.table} {settings.map}"
        _warn(f"{file} does not have the line: {line}; leases do not count until smtpd is started with it")
    elif not any(f"<{settings.table}>" in rule.text and not rule.rejects for rule in config.rules):
        _warn(f"{file} has no rule: match from src <{settings.table}> ...; leases do not count until it has")


def _networks(rule: Rule, config: Configuration, ours: Path) -> Iterator[Network]:
    """Yield whom a rule is about.

    Args:
        rule: one that rejects, or that is for every recipient.
        config: where its table is defined.
        ours: our own directory; files in it are maps of other writers, which hold leases.

    Raises:
        UnlistableError: nobody knows.
    """
    if rule.excluded or not rule.plain:
        raise UnlistableError("depends on more than networks")
    if rule.source == "any":
        yield from _EVERYTHING
    elif rule.source == "local":
        yield from _LOOPBACK
    elif rule.source != "socket":
        for value in _values(rule.source, config, ours):
            try:
                yield ip_network(value if _NETWORK.fullmatch(value) else "", strict=False)
            except ValueError as error:
                raise UnlistableError(f"{value} is no network") from error


def _values(source: str, config: Configuration, ours: Path) -> list[str]:
    if not source.startswith("<"):
        return words(source)
    definition = " ".join(config.tables.get(source[1:-1], ()))
    if definition.startswith("{"):
        return words(definition)
    kind, _, path = definition.rpartition(":")
    if kind not in {"", "file", "static"}:
        raise UnlistableError(f"{definition} cannot be listed")
    if Path(os.path.realpath(path)).parent == Path(os.path.realpath(ours)):
        return []
    try:
        lines = os.fsdecode(Path(path).read_bytes()).splitlines()
    except OSError as error:
        raise UnlistableError(f"{path} cannot be read ({error.strerror})") from error
    return [line.strip() for line in lines if line.strip() and not line.strip().startswith("#")]


def _warn(text: str) -> None:
    warnings.warn(text, stacklevel=3)
