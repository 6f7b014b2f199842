"""A postconf and a postmap that say what a test wants, ahead of the real ones on the path."""

from __future__ import annotations

from pathlib import Path

import pytest
from pop_before_smtp_postfix import _commands

TYPES = "btree cdb cidr environ fail hash inline lmdb memcache proxy regexp socketmap static tcp texthash unix"


class FakePostfix:
    """Scripts in a directory of their own; each attribute of Postfix is a file that a script prints."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir()
        self.say(m=TYPES.replace(" ", "\n"), xh="127.0.0.0/8 [::ffff:127.0.0.0]/104 [::1]/128", P="")
        self.script("postconf", 'case "$1" in -c) shift 2;; esac; cat "$dir/${1#-}"')
        self.script("postmap", 'case "$1" in -c) shift 2;; esac; cat "$dir/$(echo "$2" | tr / _)"')

    def say(self, **answers: str) -> None:
        """Set what ``postconf -m``, ``-xh mynetworks`` and ``-P ...`` print."""
        for name, text in answers.items():
            (self.directory / name).write_text(text)

    def table(self, name: str, *keys: str) -> None:
        """Set what ``postmap -s name`` prints."""
        (self.directory / name.replace("/", "_")).write_text("".join(f"{key}\tx\n" for key in keys))

    def script(self, name: str, text: str) -> None:
        """Replace a command."""
        path = self.directory / name
        path.write_text(f"#!/bin/sh\ndir={self.directory}\n{text}\n")
        path.chmod(0o755)


@pytest.fixture
def fake_postfix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakePostfix:
    """Give a Postfix that has all tables and Debian's default mynetworks."""
    fake = FakePostfix(tmp_path / "postfix")
    monkeypatch.setenv("PATH", f"{fake.directory}:/usr/bin:/bin")
    return fake


@pytest.fixture
def no_postfix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide every Postfix of this machine."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(_commands, "SBIN", ())
