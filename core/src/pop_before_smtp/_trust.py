"""What of a source is believed beside what its lines say: which host they name, who sent them, who could split them."""

from __future__ import annotations

import fnmatch
import logging
from collections.abc import Iterable, Mapping

from attrs import field, frozen

_log = logging.getLogger("pop_before_smtp.source")


@frozen(kw_only=True)
class Senders:
    """The processes whose records in the journal are a server's own; both have to fit."""

    units: tuple[str, ...] = ()
    """systemd units, ``*`` and ``?`` matching as in a shell. Where none is named, nothing is believed."""
    uids: tuple[int, ...] = ()
    """User ids; where none is named, any."""
    _known: dict[tuple[bytes, bytes], bool] = field(factory=dict, init=False, eq=False, repr=False)

    def sent(self, trusted: Mapping[str, bytes]) -> bool:
        """Return whether a record with these fields, which only the journal can set, came from one of them."""
        key = trusted.get("_SYSTEMD_UNIT", b""), trusted.get("_UID", b"")
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = self._sent(*(part.decode("utf-8", "replace") for part in key))
        return known

    def _sent(self, unit: str, uid: str) -> bool:
        right = not self.uids or uid in map(str, self.uids)
        return right and any(fnmatch.fnmatchcase(unit, pattern) for pattern in self.units)


class Trust:
    """What of one source is believed.

    Args:
        source: its name, for the warning at the second host; without one nothing is said.
        hosts: the hosts whose records count; all if there are none.
        escaped: whoever writes it lets no client begin a line.
        senders: for a journal, by parser, who may have written its records.
    """

    def __init__(
        self,
        source: str = "",
        *,
        hosts: Iterable[str] = (),
        escaped: bool = True,
        senders: Mapping[str, Senders] | None = None,
    ) -> None:
        self.own = False
        """A server's own file: no syslog daemon writes it, and its lines name no host."""
        self.familiar: bytes | None = None
        """The host that was asked for last and is believed."""
        self._source = source
        self._hosts = frozenset(host.lower().encode() for host in hosts)
        self._escaped = escaped
        self._senders = senders
        self._first: bytes | None = None

    @property
    def strict(self) -> bool:
        """Whether :meth:`refusal` has to be asked for each record, not only for each host."""
        return self._senders is not None or not (self._escaped or self.own)

    def refusal(self, parser: str, host: bytes, trusted: Mapping[str, bytes]) -> str:
        """Return why a parser's record is not believed, or an empty text.

        Args:
            parser: its name.
            host: as the record names it.
            trusted: the fields that only the journal can set.
        """
        if not (self._escaped or self.own):
            return "unescaped_source"
        if not self.admits(host):
            return "other_host"
        if self._senders is not None and not self._senders[parser].sent(trusted):
            return "untrusted_sender"
        self.familiar = host
        return ""

    def admits(self, host: bytes) -> bool:
        """Return whether a host's records count, and warn once where nobody has said so and there are several."""
        if self._hosts:
            return host.lower() in self._hosts or (self.own and not host)
        if self._first is None:
            self._first = host
        elif host != self._first and self._source:
            _log.warning(
                '%s: holds the logins of several hosts, "%s" and "%s"; name those that count in hosts',
                self._source,
                _shown(self._first),
                _shown(host),
            )
            self._source = ""
        return True


def _shown(host: bytes) -> str:
    return ascii(host.decode("latin-1"))[1:-1]
