"""Telling systemd how we are, by sd_notify(3) over its datagram socket, and hearing of what may be news of that."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
from collections.abc import Callable


def notify(message: str) -> None:
    """Send ``READY=1``, ``STOPPING=1``, ``WATCHDOG=1`` ... where a service manager listens; else do nothing."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        try:
            sock.sendto(message.encode(), "\0" + address[1:] if address[0] == "@" else address)
        except OSError:
            pass  # a manager that has gone away is no reason to stop serving


def watchdog_interval() -> float | None:
    """Return how often, in seconds, to send ``WATCHDOG=1``: half of WATCHDOG_USEC; None if nobody asks for it."""
    microseconds = os.environ.get("WATCHDOG_USEC", "")
    for_us = os.environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
    return int(microseconds) / 2e6 if microseconds.isdigit() and for_us else None


class Ear(logging.Handler):
    """Hears what is logged: what is worth a line there, as a source that fails, may be news of how things are."""

    def __init__(self, hear: Callable[[], object]) -> None:
        super().__init__()
        self._hear = hear

    def emit(self, _record: logging.LogRecord) -> None:
        """Tell of it, unless the loop is closed."""
        with contextlib.suppress(RuntimeError):
            self._hear()
