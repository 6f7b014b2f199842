"""A smtpctl that keeps what smtpd would read, and no smtpd but the one that a test starts."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from pop_before_smtp_opensmtpd import _commands


class FakeSmtpd:
    """What smtpd knows of the table: the file as it was at the last ``smtpctl update table pbs``."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        (directory / "proc").mkdir(parents=True)
        self.copy = directory / "copy"
        self.script(
            '[ "$*" = "update table pbs" ] || exit 9; [ ! -e "$dir/map" ] || ln -f "$(readlink "$dir/map")" "$dir/copy"'
        )

    def watch(self, path: Path) -> None:
        """Name the file behind the table."""
        (self.directory / "map").unlink(missing_ok=True)
        (self.directory / "map").symlink_to(path)

    def script(self, text: str) -> None:
        """Replace smtpctl."""
        path = self.directory / "smtpctl"
        path.write_text(f"#!/bin/sh\ndir={self.directory}\n{text}\n")
        path.chmod(0o755)

    def process(self, name: str) -> None:
        """Let a process of this name be there."""
        (self.directory / "proc" / "77").mkdir()
        (self.directory / "proc" / "77" / "comm").write_text(f"{name}\n")
        (self.directory / "proc" / "78").mkdir()


@pytest.fixture
def fake_smtpd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeSmtpd:
    """Give a smtpctl that works."""
    fake = FakeSmtpd(tmp_path / "smtpd")
    monkeypatch.setenv("PATH", os.pathsep.join((str(fake.directory), "/usr/bin", "/bin")))
    monkeypatch.setattr(_commands, "SBIN", ())
    monkeypatch.setattr(_commands, "PROC", fake.directory / "proc")
    return fake


@pytest.fixture
def no_smtpd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide every smtpctl of this machine."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(_commands, "SBIN", ())
