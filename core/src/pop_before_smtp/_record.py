"""One log record: batches of lines, and how the lines of a source are taken apart."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import tzinfo

from attrs import define, field, frozen

from ._pattern import Grammar
from ._stamp import CALENDAR, COUNTER, Stamps, counted
from ._trust import Trust
from .api import LogHeader, Record

Head = tuple[float | None, bytes, bytes, bytes, bytes]
"""Time, host, program, pid and message of one line."""

_NAMES = rb"(\S*[^\s:]) ([^\s\[:]+)(?:\[([^\s\]]*)\])?: (.*)"
"""Host, program, pid and message."""
_PRIORITY = rb"(?:<[0-9]{1,3}>)?"
_SYSLOG = re.compile(_PRIORITY + CALENDAR + rb" " + _NAMES, re.DOTALL)
"""RFC 3164 and ISO 8601."""
_RFC5424 = re.compile(
    rb"<[0-9]{1,3}>1 (\S+) (\S+) (\S+) (\S+) \S+ "
    rb'(?:-|(?:\[[^\s\]="]+(?: [^\s\]="]+="(?:[^"\\]|\\.)*")*\])+) ?(?:\xef\xbb\xbf)? ?(.*)',
    re.DOTALL,
)
"""Daemons that write the file keep the blank that begins a message, so there may be two."""
_LOCAL = re.compile(rb"<[0-9]{1,3}>" + CALENDAR + rb" ([^\s\[:]+)(?:\[([^\s\]]*)\])?: (.*)", re.DOTALL)
"""What syslog(3) sends to a socket: no host. In a file, where another line may stand, a tag could be taken for one."""
_COUNTED = re.compile(rb"(" + COUNTER + rb") (?:(\S*[^\s:]) )?([^\s\[:]+)(?:\[([^\s\]]*)\])?: (.*)", re.DOTALL)
"""What multilog and its kin write, which put a stamp before a line and know of no host."""
_REPEATED = re.compile(rb"message repeated [0-9]+ times: \[ ?(.*)\]", re.DOTALL)
_DIGITS = bytes.maketrans(b"123456789", b"000000000")
_HOST = re.compile(rb"[0-9A-Za-z._:@/%\[\]-]+")
"""What a host name is made of, where a file has yet to prove that it is a syslog file."""


@frozen(kw_only=True)
class Checkpoint:
    """How far a file has been read.

    ``fingerprint`` is a hash of the file's first bytes (as many as ``fingerprint_size``) and of those before the
    offset, so that a file that was truncated and grown again, or another file with a reused inode number, is told from
    the one we knew, and a copy of it is known again.
    """

    device: int
    inode: int
    offset: int
    fingerprint: bytes
    fingerprint_size: int
    others: tuple[Checkpoint, ...] = ()
    """How far the files were read that rotation has made of the log."""


Position = Checkpoint | str
"""How far a source has been read: in a file, or the journal's cursor."""


class Layout:
    """How the lines of one source are taken apart: as syslog writes them, or as one server writes its own file.

    Args:
        headers: the servers' own files that are known.
        format: ``auto``, ``syslog`` or the name of a header.
        zone: what a stamp without a zone means; None is the machine's own.
        trust: what of the source is believed; all if None.
        local: its lines come as programs send them to their syslog daemon, where they may name no host.

    Raises:
        PluginError: a header's pattern does not fit the contract.
    """

    def __init__(
        self,
        headers: Sequence[LogHeader] = (),
        *,
        format: str = "auto",  # noqa: A002 - the key in [[source]]
        zone: tzinfo | None = None,
        trust: Trust | None = None,
        local: bool = False,
    ) -> None:
        self.trust = trust or Trust()
        self._headers = [(header, Grammar(f"header {header.name!r}", header.line, _GROUPS)) for header in headers]
        self._stamps = Stamps(zone)
        self._local = local
        self._own: tuple[LogHeader, Grammar] | None = None
        self.decided = format != "auto"
        """What the file is need not be asked any more."""
        if format not in {"auto", "syslog"}:
            self._own = next(known for known in self._headers if known[0].name == format)
            self.trust.own = True

    def sniff(self, head: bytes) -> None:
        """Decide by the first lines of a file what it is, unless that is decided; a draw goes to syslog.

        Args:
            head: the first bytes; if no line in them fits anything, later ones may be tried.
        """
        if self.decided:
            return
        votes: Counter[int] = Counter()
        for line in head.split(b"\n")[:-1]:  # splitlines() would let a client's carriage return begin a line
            votes[self._vote(line)] += 1
        del votes[-1]
        if votes:
            winner = max(votes, key=lambda each: (votes[each], each == 0))
            self._own = self._headers[winner - 1] if winner else None
            self.trust.own = self._own is not None
            self.decided = True

    def _vote(self, line: bytes) -> int:
        """Return 0 for a syslog line, the number of the header that it fits counted from 1, -1 for neither."""
        head = self.split(line, 0.0, live=False)
        if head and _HOST.fullmatch(head[1]):
            return 0
        return next((n for n, (_, grammar) in enumerate(self._headers, 1) if grammar.spans(line)), -1)

    def stamp(self, line: bytes, near: float) -> float | None:
        """Return the line's own time in unix seconds, in the year nearest to ``near`` if it has none."""
        head = self.split(line, near, live=False)
        return head[0] if head else None

    def record(self, line: bytes, batch: Batch, position: int) -> Record | None:
        """Return the record of a line without its end, None where no header fits.

        Args:
            line: the text without its newline.
            batch: what the line came with.
            position: the line's offset in the source.
        """
        head = self.split(line, batch.near, live=batch.live)
        if not head:
            return None
        time, host, program, pid, message = head
        return Record(
            time=time,
            received=batch.received,
            host=host,
            program=program,
            pid=pid,
            message=message,
            source=batch.source,
            position=position,
            limit=batch.limit,
            live=batch.live,
        )

    def split(self, line: bytes, near: float, *, live: bool) -> Head | None:
        """Return the parts of a line without its end, None where no header fits."""
        return self.heads([line], near, live=live)[0]

    def heads(self, lines: Iterable[bytes], near: float, *, live: bool) -> list[Head | None]:
        """Return the parts of many lines: quick where a header is the last one's but for its seconds, as most are."""
        heads: list[Head | None] = []
        last = b"", 0, 0, b"", b"none", 0.0, b"", b"", 0  # no seconds look like that
        for line in lines:
            head: Head | None
            minute, at, end, behind, digits, start, host, program, body = last
            seconds = line[at:end]
            if line.startswith(minute) and line.startswith(behind, end) and seconds.translate(_DIGITS) == digits:
                head = start + float(seconds), host, program, b"", line[body:]
            elif not self._own and (found := _SYSLOG.match(line)):
                minute, seconds, zone, host, program, pid, message = found.groups(b"")
                begun = self._stamps.start(minute, zone, near, live=live)
                head = None if begun is None else begun + float(seconds), host, program, pid, message
                if begun is not None and not pid:
                    (at, end), body = found.span(2), found.start(7)
                    digits = seconds.translate(_DIGITS)
                    last = line[:at], at, end, line[end:body], digits, begun, host, program, body
            else:
                head = self._rare(line, near, live=live)
            if head and head[4].startswith(b"message repeated ") and (repeated := _REPEATED.fullmatch(head[4])):
                head = *head[:4], repeated[1]
            heads.append(head)
        return heads

    def _rare(self, line: bytes, near: float, *, live: bool) -> Head | None:
        """Take the headers apart that few files have."""
        if self._own:
            return self._own_line(line, near, live=live)
        if found := _RFC5424.match(line):
            stamp, *names, message = found.groups()
            host, program, pid = (b"" if name == b"-" else name for name in names)
            return self._stamps.read(stamp, near, live=live), host, program, pid, message
        if self._local and (found := _LOCAL.match(line)):
            minute, seconds, zone, program, pid, message = found.groups(b"")
            return self._stamps.read(minute + seconds + zone, near, live=live), b"", program, pid, message
        if found := _COUNTED.match(line):
            stamp, host, program, pid, message = found.groups(b"")
            return counted(stamp), host, program, pid, message
        return None

    def _own_line(self, line: bytes, near: float, *, live: bool) -> Head | None:
        """Take a line of a server's own file apart."""
        assert self._own  # noqa: S101 - the caller has looked
        header, grammar = self._own
        spans = grammar.spans(line)
        if not spans:
            return None
        text = {name: line[slice(*spans[at])] for name, at in grammar.groups.items() if spans[at][0] >= 0}
        time = self._stamps.read(text["time"], near, live=live) if "time" in text else None
        return (
            time,
            text.get("host", b""),
            text.get("program", header.program),
            text.get("pid", b""),
            text.get("message", b""),
        )


_GROUPS = frozenset({"message", "time", "host", "program", "pid"})


@define(kw_only=True)
class Batch:
    """Whole lines of one source, at most 128 KiB unless one line is longer."""

    source: str
    data: bytes
    """Each line ends in a newline, but for the last one of a source that ended."""
    position: int = 0
    """Byte offset of ``data`` in the source."""
    received: float
    """Wall clock at reading."""
    limit: float = float("inf")
    """No event of this batch may be later: receipt, or the file's mtime for bytes found at opening."""
    live: bool = True
    """Appended while we watched."""
    layout: Layout = field(factory=Layout)
    """How the lines of this source are taken apart."""
    checkpoint: Checkpoint | None = None
    """Where the source stands behind this batch; None for streams."""

    @property
    def trusted(self) -> Mapping[str, bytes]:
        """The journal's fields: none. As :attr:`pop_before_smtp.api.Record.trusted`."""
        return {}

    @property
    def near(self) -> float:
        """The moment near which stamps without a year are: the limit, or receipt where there is none."""
        return min(self.limit, self.received)

    def goes_on(self, last: Batch) -> bool:
        """Return whether the same is known of its lines as of those before: where from, when, how."""
        mine = self.source, self.received, self.limit, self.live, self.layout
        return mine == (last.source, last.received, last.limit, last.live, last.layout)


@define(kw_only=True)
class Records:
    """Records that come taken apart, as from the journal."""

    source: str
    records: Sequence[Record]
    trust: Trust = field(factory=Trust)
    """What of the source is believed."""
    checkpoint: str | None = None
    """Where the source stands behind them, for one that can go on from there."""
