"""A sendmail and a makemap that say what a test wants, ahead of the real ones on the path."""

from __future__ import annotations

from pathlib import Path

import pytest
from pop_before_smtp_sendmail import _cf

BANNER = "ADDRESS TEST MODE (ruleset 3 NOT automatically invoked)\nEnter <ruleset> <address>\n"


class FakeSendmail:
    """Scripts in a directory of their own, and a sendmail.cf."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir()
        self.cf = directory / "sendmail.cf"
        self.cf.write_text("")
        self.class_r()
        self.script("sendmail", 'echo "$@" >> "$dir/asked"; cat > /dev/null; cat "$dir/class-r"')
        self.script("makemap", 'cat "$dir/$(echo "$2-$3" | tr / _)"')

    def class_r(self, *members: str) -> None:
        """Set what ``$=R`` prints."""
        (self.directory / "class-r").write_text(f"{BANNER}> " + "".join(f"{each}\n" for each in members) + "> ")

    def table(self, kind: str, path: str, *entries: str) -> None:
        """Set what ``makemap -u kind path`` prints; entries are ``key value``."""
        lines = "".join(entry.replace(" ", "\t", 1) + "\n" for entry in entries)
        (self.directory / f"{kind}-{path}".replace("/", "_")).write_text(lines)

    def script(self, name: str, text: str) -> None:
        """Replace a command."""
        path = self.directory / name
        path.write_text(f"#!/bin/sh\ndir={self.directory}\n{text}\n")
        path.chmod(0o755)


@pytest.fixture
def fake_sendmail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeSendmail:
    """Give a sendmail that lets nobody relay and has no access map."""
    fake = FakeSendmail(tmp_path / "sendmail")
    monkeypatch.setenv("PATH", f"{fake.directory}:/usr/bin:/bin")
    return fake


@pytest.fixture
def no_sendmail(fake_sendmail: FakeSendmail, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide every sendmail of this machine, and the fake one."""
    assert fake_sendmail
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(_cf, "SBIN", ())
