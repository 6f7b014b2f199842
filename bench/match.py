"""How fast a log is searched for logins, beside ``grep -c -F`` on the same file in the same run.

The log has a million lines: Postfix's, and of Dovecot as many logouts as logins and a few failures. The matcher reads
it as ``match --kind login --quiet`` does, but the start of the interpreter is not counted, while grep's own start is.
"""

from __future__ import annotations

import random
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from pop_before_smtp._match import Matcher
from pop_before_smtp._plugins import load
from pop_before_smtp._record import Layout
from pop_before_smtp._sources import read_all
from pop_before_smtp.api import LogParser

from . import Row

DATA = Path(__file__).parent / "data"
LINES = 1_000_000
SHARES = {0.05: 0.12, 0.005: 0.45}
"""The share of logins, and the part of grep's speed that is to be reached with one parser; a third of it with all."""
RUNS = 7
"""The best of as many counts, grep and ours in turn."""
PARSERS = (("dovecot",), ("dovecot", "uw_imap", "courier"))
LITERAL = "-login: Login: user=<"

_START = 1_795_339_046.0
_LOGIN = (
    "dovecot: imap-login: Login: user=<user{n}@example.org>, method=PLAIN, rip={ip}, lip=192.0.2.1, mpid={pid}, TLS, "
    "session=<{session}>"
)
_LOGOUT = (
    "dovecot: imap(user{n}@example.org)<{pid}><{session}>: Disconnected: Logged out in=9 out=470 deleted=0 expunged=0 "
    "trashed=0 hdr_count=0"
)
_FAILURE = (
    "dovecot: imap-login: Disconnected: Connection closed (auth failed, 1 attempts in 2 secs): user=<x>, method=PLAIN, "
    "rip={ip}, lip=192.0.2.1, TLS, session=<{session}>"
)
_POSTFIX = (
    "postfix/smtpd[{pid}]: connect from unknown[{ip}]",
    "postfix/smtpd[{pid}]: disconnect from unknown[{ip}] ehlo=1 mail=1 rcpt=1 data=1 quit=1 commands=5",
    "postfix/qmgr[{pid}]: 4F1A2B3C4D: from=<a@b.example>, size=2345, nrcpt=1 (queue active)",
    (
        "postfix/smtp[{pid}]: 4F1A2B3C4D: to=<someone@foreign.example>, relay=mx.foreign.example[{ip}]:25, delay=0.5, "
        "delays=0.1/0/0.2/0.2, dsn=2.0.0, status=sent (250 2.0.0 Ok: queued as 12345)"
    ),
    "postfix/cleanup[{pid}]: 4F1A2B3C4D: message-id=<20261122.{n}@example.org>",
)


def log(share: float) -> Path:
    """Return the log with this share of logins, the same in each run, made if it is not there."""
    path = DATA / f"mail-{share}.log"
    if not path.exists():
        DATA.mkdir(parents=True, exist_ok=True)
        fresh = path.with_suffix(".new")
        with fresh.open("w") as file:
            file.writelines(_lines(share))
        fresh.replace(path)
    return path


def _lines(share: float) -> Iterator[str]:
    chance = random.Random(20261122)
    for number in range(LINES):
        at = _START + number / 20
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at))
        kind = chance.random()
        if kind < share:
            form = _LOGIN
        elif kind < 2 * share:
            form = _LOGOUT
        else:
            form = _FAILURE if kind < 2.4 * share else chance.choice(_POSTFIX)
        text = form.format(
            n=chance.randrange(5000),
            ip=f"203.0.113.{chance.randrange(256)}",
            pid=chance.randrange(1, 99999),
            session=f"{chance.getrandbits(95):024x}",
        )
        yield f"{stamp}.{chance.randrange(10**6):06}+00:00 mail {text}\n"


def count(path: Path, parsers: Sequence[LogParser]) -> int:
    """Return how many logins the parsers find."""
    matcher, layout = Matcher(parsers), Layout([header for parser in parsers for header in parser.headers])
    return matcher.tally(read_all(str(path), layout)).total()


def grep(path: Path) -> int:
    """Return how many lines hold the literal of a login."""
    program = shutil.which("grep")
    assert program
    return int(subprocess.run([program, "-c", "-F", "-e", LITERAL, path], capture_output=True, check=True).stdout)


def rows() -> Iterator[Row]:
    """Yield a row for each share of logins and number of parsers."""
    for share, wanted in SHARES.items():
        path = log(share)
        for names in PARSERS:
            parsers = load(names)[0].parsers
            ours, greps = [], []
            for _ in range(RUNS):
                start = time.perf_counter()
                by_grep = grep(path)
                middle = time.perf_counter()
                assert count(path, parsers) == by_grep
                greps.append(middle - start)
                ours.append(time.perf_counter() - middle)
            seconds, reference = min(ours), min(greps)
            figure = f"{path.stat().st_size / 1e6 / seconds:.0f} MB/s"
            yield f"{share:.1%} logins, {len(parsers)} parser{'s'[: len(parsers) > 1]}", figure, ""
            target = f">= {wanted if len(parsers) == 1 else wanted / 3:.2f}"
            yield "  lines a second", f"{LINES / seconds:,.0f}", ""
            yield f"  of grep -c -F ({reference:.3f} s)", f"{reference / seconds:.3f}", target


def main() -> None:
    """Print the table."""
    for what, figure, target in rows():
        print(f"{what:<58} {figure:>14}  {target}", flush=True)


if __name__ == "__main__":
    main()
