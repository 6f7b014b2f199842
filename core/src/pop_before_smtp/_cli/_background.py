"""``--daemon=PIDFILE``: go to the background, but not before it is known that we run."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

from pop_before_smtp.errors import ConfigError, PopBeforeSmtpError


def background(pidfile: Path, job: Callable[[Callable[[], None]], None]) -> None:
    """Run a job in a child process of its own session.

    The parent returns when the child says it is ready; where the child ends before, the parent exits with its code,
    and the child's errors stand on the terminal as if it had stayed in the foreground.

    Args:
        pidfile: holds the child's pid while it runs.
        job: called in the child with the function to call when ready.

    Raises:
        ConfigError: the pid file cannot be written.
    """
    if not os.access(pidfile.parent, os.W_OK | os.X_OK):
        raise ConfigError(f"--daemon: {pidfile.parent} is not a writable directory; name another pid file")
    listen, tell = os.pipe()
    child = os.fork()
    if child:
        os.close(tell)
        if os.read(listen, 1):
            return
        sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    os.close(listen)
    os.setsid()
    os.chdir("/")
    _write(pidfile)
    try:
        job(lambda: _detach(tell))
    finally:
        pidfile.unlink(missing_ok=True)


def _write(pidfile: Path) -> None:
    """Put the pid file in place whole, whoever reads it meanwhile."""
    fresh = pidfile.with_name(f"{pidfile.name}.{os.getpid()}")
    try:
        fresh.write_text(f"{os.getpid()}\n")
        fresh.replace(pidfile)
    except OSError as error:
        raise PopBeforeSmtpError(f"{pidfile}: {error.strerror}") from error


def _detach(tell: int) -> None:
    """Let go of the terminal and tell the parent."""
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        os.dup2(null, stream.fileno())
    os.write(tell, b"1")
    os.close(tell)
    os.close(null)
