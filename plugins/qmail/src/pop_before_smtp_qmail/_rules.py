r"""Rules as tcprules(1) reads them and tcpserver(1) follows them.

A rule's address becomes a key, its instructions a value: ``D\0`` for ``deny``, ``+NAME=text\0`` for each variable.
Of equal keys the first counts. tcpserver looks for the whole address, then for ever shorter beginnings that end in a
dot or colon, then for nothing at all; ``=name`` and ``user@address`` come from DNS and ident.

Source: the commands of Debian's ucspi-tcp and ucspi-tcp-ipv6 0.88-7, tried with every form below.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from attrs import field, frozen

DENY = b"D\0"

_RULE = re.compile(rb"(.*?):(?=allow|deny)(.*)", re.DOTALL)
"""Addresses may hold colons, so the first that stands before an instruction ends them."""
_WHAT = re.compile(rb"(allow|deny)((?:,[^=]*=(.)(?:(?!\3).)*\3)*)", re.DOTALL)
_VARIABLE = re.compile(rb",([^=]*=)(.)((?:(?!\2).)*)\2", re.DOTALL)
_NUMBER = re.compile(rb"[0-9]{0,9}")
_IPV6 = re.compile(rb"(?:[^:]*@)?[0-9A-Fa-f:.]*")
_BLANKS = b" \t\n"


class RulesError(ValueError):
    """The rules cannot be read or understood; one line says where and why."""


@frozen(kw_only=True)
class Rules:
    """What a rules file says."""

    items: tuple[tuple[bytes, bytes], ...] = ()
    """All keys and values in order, as tcprules writes them; a range is many keys."""
    first: dict[bytes, bytes] = field(init=False)
    """The values that count."""
    _beginnings: dict[bytes, bytes] = field(init=False)
    _lengths: tuple[int, ...] = field(init=False)

    @first.default
    def _first(self) -> dict[bytes, bytes]:
        found: dict[bytes, bytes] = {}
        for key, value in self.items:
            found.setdefault(key, value)
        return found

    @_beginnings.default
    def _of_networks(self) -> dict[bytes, bytes]:
        return {key: value for key, value in self.first.items() if key.endswith((b".", b":"))}

    @_lengths.default
    def _longest_first(self) -> tuple[int, ...]:
        return tuple(sorted({len(key) for key in self._beginnings}, reverse=True))

    def wider(self, key: bytes) -> bytes | None:
        """Return what counts for an address that has no rule of its own, names and users left aside.

        Args:
            key: as tcpserver spells the address.

        Returns:
            The variables to set, empty where no rule fits; None for a network that is denied. Where only the default
            denies, that is for everybody who is not listed, so it does not count for who is to be.
        """
        for length in self._lengths:
            if (value := self._beginnings.get(key[:length])) is not None:
                return None if denies(value) else value
        value = self.first.get(b"", b"")
        return b"" if denies(value) else value


def read(path: Path) -> Rules:
    """Read a rules file.

    Raises:
        RulesError: it cannot be read, or a line is wrong.
    """
    try:
        text = path.read_bytes()
    except OSError as error:
        raise RulesError(f"{path} cannot be read: {error.strerror}") from error
    found: list[tuple[bytes, bytes]] = []
    for number, line in enumerate(text.split(b"\n"), 1):
        try:
            found += _rule(line)
        except RulesError as error:
            raise RulesError(f"{path}, line {number}: {error}") from None
    return Rules(items=tuple(found))


def variables(text: bytes) -> bytes:
    """Return the value for ``NAME="text",...``, the part of a rule behind ``allow,``.

    Raises:
        RulesError: tcprules would not take it.
    """
    return _value(b"allow," + text)


def denies(value: bytes) -> bool:
    """Tell whether tcpserver drops the connection."""
    return any(part.startswith(b"D") for part in value.split(b"\0")[:-1])


def relays(value: bytes) -> bool:
    """Tell whether qmail-smtpd relays."""
    return not denies(value) and any(part.startswith(b"+RELAYCLIENT=") for part in value.split(b"\0")[:-1])


def _rule(line: bytes) -> Iterator[tuple[bytes, bytes]]:
    text = line.rstrip(_BLANKS)
    if line.startswith(b"#") or b":" not in text:
        return
    if not (parts := _RULE.fullmatch(text)):
        raise RulesError(f"neither allow nor deny behind the address in {_show(text)}")
    address, instructions = parts.groups()
    if b":" in address and not _IPV6.fullmatch(address):
        raise RulesError(f"{_show(address)} is no address")
    value = _value(instructions)
    for key in _keys(address):
        yield key, value


def _value(instructions: bytes) -> bytes:
    if not (parts := _WHAT.fullmatch(instructions)):
        raise RulesError(f'{_show(instructions)} is not spelt as allow,NAME="text",NAME="text"')
    start = DENY if parts[1] == b"deny" else b""
    return start + b"".join(b"+%s%s\0" % (name, text) for name, _, text in _VARIABLE.findall(parts[2]))


def _keys(address: bytes) -> Iterator[bytes]:
    """Yield the address, or all the addresses that a range stands for."""
    if b"-" not in address or b"=" in address or b"@" in address:
        yield address
        return
    before, _, after = address.partition(b"-")
    lead, dot, lowest = before.rpartition(b".")
    highest, end, rest = after.partition(b".")
    if not (_NUMBER.fullmatch(lowest) and _NUMBER.fullmatch(highest)):
        raise RulesError(f"{_show(address)} is no range of numbers between dots")
    for part in range(int(lowest or b"0"), min(int(highest or b"0"), 255) + 1):
        yield b"%s%s%d%s%s" % (lead, dot, part, end, rest)


def _show(text: bytes) -> str:
    return ascii(text.decode("latin-1")[:80])
