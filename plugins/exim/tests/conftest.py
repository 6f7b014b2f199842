"""An exim that prints the configuration that a test wants, ahead of the real one on the path."""

from __future__ import annotations

from pathlib import Path

import pytest
from pop_before_smtp_exim import _commands


class FakeExim:
    """A script in a directory of its own; a file beside it is the configuration that it prints."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir()
        self.configure("hostlist relay_from_hosts = 127.0.0.1 : ::::1 : /srv/hosts\n")
        self.script('[ "$*" = "-bP config" ] && cat "$dir/config"')

    def configure(self, text: str) -> None:
        """Set what ``exim -bP config`` prints."""
        (self.directory / "config").write_text(text)

    def script(self, text: str, name: str = "exim4") -> None:
        """Replace the program."""
        path = self.directory / name
        path.write_text(f"#!/bin/sh\ndir={self.directory}\n{text}\n")
        path.chmod(0o755)


@pytest.fixture
def fake_exim(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeExim:
    """Give an exim that relays for loopback and for what is in /srv/hosts."""
    fake = FakeExim(tmp_path / "exim")
    monkeypatch.setenv("PATH", f"{fake.directory}:/usr/bin:/bin")
    monkeypatch.setattr(_commands, "SBIN", ())
    return fake


@pytest.fixture
def no_exim(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide every exim of this machine."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(_commands, "SBIN", ())
