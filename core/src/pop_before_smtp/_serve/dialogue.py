"""What mail servers say when they ask, and what they are told: socketmap and Postfix's policy delegation. No I/O."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

Leased = Callable[[bytes], bool]
"""Whether an address, as the mail server spells it, has a lease at this moment."""

_MOST_REQUEST = 16 * 1024
"""Bytes of a request that are waited for; a policy request of Postfix has less than 2,000."""
_MOST_DIGITS = 6
"""Digits of the length of a netstring."""


class Violation(Exception):  # noqa: N818 - not our error: whoever asks does not speak the protocol
    """The connection is to be ended, after these last words.

    Args:
        reply: bytes to send before; may be empty.
    """

    def __init__(self, reply: bytes = b"") -> None:
        super().__init__(reply)
        self.reply = reply


class Dialogue(ABC):
    """One connection's requests, cut out of what arrives.

    Args:
        leased: answers for an address.
        reply: what the mail server is told of an address with a lease.
    """

    def __init__(self, leased: Leased, reply: bytes) -> None:
        self._leased = leased
        self._reply = reply
        self._held = b""

    @property
    def waiting(self) -> bool:
        """Whether a request has begun that is not there as a whole yet."""
        return bool(self._held)

    def take(self, data: bytes) -> None:
        """Add what has arrived."""
        self._held += data

    def answers(self, most: int) -> tuple[int, bytes]:
        """Answer the requests that are there.

        Args:
            most: how many at once.

        Returns:
            How many there were, and the answers to them.

        Raises:
            Violation: what is there is no request, or one that is too long.
        """
        data, at = self._held, 0
        said: list[bytes] = []
        try:
            while len(said) < most and (found := self._next(data, at)):
                at, answer = found
                said.append(answer)
        except Violation as violation:
            raise Violation(b"".join(said) + violation.reply) from None
        self._held = data[at:]
        return len(said), b"".join(said)

    @abstractmethod
    def _next(self, data: bytes, at: int) -> tuple[int, bytes] | None:
        """Return the end of the request that begins at ``at``, and the answer to it; None if it is not all there."""


class Socketmap(Dialogue):
    """socketmap_table(5) of Postfix, and sendmail's socket map: ``NAME KEY`` in a netstring, as is the answer.

    The name of the map may be any: whoever reaches the socket asks this one. No request gets a temporary error, for
    Postfix would then put off every client's mail.
    """

    def __init__(self, leased: Leased, reply: bytes) -> None:
        super().__init__(leased, reply)
        self._found, self._missing = _netstring(b"OK " + reply), _netstring(b"NOTFOUND ")

    def _next(self, data: bytes, at: int) -> tuple[int, bytes] | None:
        colon = data.find(b":", at, at + _MOST_DIGITS + 1)
        if colon < 0:
            if len(data) - at > _MOST_DIGITS or not (data[at:].isdigit() or at == len(data)):
                raise Violation
            return None
        digits = data[at:colon]
        if not digits.isdigit() or (digits[:1] == b"0" and digits != b"0") or int(digits) > _MOST_REQUEST:
            raise Violation
        end = colon + 1 + int(digits)
        if len(data) <= end:
            return None
        if data[end] != ord(","):
            raise Violation
        _, blank, key = data[colon + 1 : end].partition(b" ")
        return end + 1, self._found if blank and self._leased(key) else self._missing


class Policy(Dialogue):
    """Postfix's policy delegation (SMTPD_POLICY_README): lines ``NAME=VALUE``, an empty one at the end."""

    def __init__(self, leased: Leased, reply: bytes) -> None:
        super().__init__(leased, reply)
        self._found, self._missing = b"action=" + reply + b"\n\n", b"action=DUNNO\n\n"

    def _next(self, data: bytes, at: int) -> tuple[int, bytes] | None:
        end = data.find(b"\n\n", at, at + _MOST_REQUEST)
        if end < 0:
            if len(data) - at >= _MOST_REQUEST or data[at : at + 1] == b"\n":
                raise Violation
            return None
        lines = data[at:end].split(b"\n")
        addresses = [line[15:] for line in lines if line.startswith(b"client_address=")]
        if b"request=smtpd_access_policy" not in lines or not all(b"=" in line for line in lines):
            raise Violation
        return end + 2, self._found if len(addresses) == 1 and self._leased(addresses[0]) else self._missing


def _netstring(text: bytes) -> bytes:
    return b"%d:%s," % (len(text), text)


DIALOGUES: dict[str, type[Dialogue]] = {"socketmap": Socketmap, "policy": Policy}
"""The protocols, as a ``Lookup`` names them."""
