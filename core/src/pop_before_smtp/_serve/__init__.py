"""Live answers: sockets at which a mail server asks whether an address has a lease."""

from __future__ import annotations

from .place import problems
from .server import Server, Servers

__all__ = ["Server", "Servers", "problems"]
