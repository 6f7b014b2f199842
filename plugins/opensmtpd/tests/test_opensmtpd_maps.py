"""The contract, read from what smtpd was told to read; and what a ``[[writer]]`` for OpenSMTPD may say."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st
from pop_before_smtp.api import Changes, Map
from pop_before_smtp.errors import ConfigError, MapError
from pop_before_smtp.maps import text
from pop_before_smtp.testing import WriterTests
from pop_before_smtp_opensmtpd import Settings, _commands, pop_before_smtp_writers
from pop_before_smtp_opensmtpd._maps import PLACEHOLDER

(WRITER,) = pop_before_smtp_writers()
NONE: frozenset[str] = frozenset()
ONE = frozenset({"192.0.2.10"})
NOT_RUNNING = 'echo "smtpctl: smtpd doesn\'t seem to be running" >&2; exit 1'


class TestTable(WriterTests):
    writer = WRITER
    mode = 0o644

    @pytest.fixture(autouse=True)
    def _smtpd(self, fake_smtpd: Any, directory: Path) -> None:
        self.smtpd = fake_smtpd
        fake_smtpd.watch(directory / "hosts")

    def settings(self, directory: Path) -> Settings:
        return Settings(map=f"file:{directory}/hosts")

    def read(self, target: Map) -> set[str]:
        assert target.path
        first, *lines = text.read(self.smtpd.copy)
        assert first == PLACEHOLDER.encode()
        return {line.decode() for line in lines}

    def test_the_placeholder_stays(self, target: Map) -> None:
        target.write(Changes(added=NONE, removed=NONE, current=NONE))
        assert target.path.read_text() == f"{PLACEHOLDER}\n"
        target.write(Changes(added={PLACEHOLDER}, removed=NONE, current={PLACEHOLDER}))
        assert target.path.read_text() == f"{PLACEHOLDER}\n"
        target.clear()
        assert target.path.read_text() == f"{PLACEHOLDER}\n"

    @pytest.mark.parametrize(
        ("script", "says"),
        [
            ("echo 'command failed' >&2; exit 1", "command failed"),
            ("echo 'smtpctl: need root privileges' >&2; exit 1", "need root"),
            ("exit 3", "exit 3"),
            ("exec sleep 5", "timed out"),
        ],
    )
    def test_a_failing_smtpctl(self, target: Map, monkeypatch: pytest.MonkeyPatch, script: str, says: str) -> None:
        """The file is written, but smtpd did not read it: both calls say so, and work again when smtpctl does."""
        target.write(Changes(added=ONE, removed=NONE, current=ONE))
        monkeypatch.setattr(_commands, "TIMEOUT", 0.05)
        working = (self.smtpd.directory / "smtpctl").read_text()
        self.smtpd.script(script)
        for call in (lambda: target.write(Changes(added=NONE, removed=ONE, current=NONE)), target.clear, target.clear):
            with pytest.raises(MapError) as caught:
                call()
            assert says in str(caught.value)
            assert "update table pbs" in str(caught.value)
            assert "\n" not in str(caught.value)
        assert self.read(target) == ONE
        self.smtpd.script(working.split("\n", 2)[2])
        monkeypatch.setattr(_commands, "TIMEOUT", 5)
        target.clear()
        assert self.read(target) == NONE
        target.write(Changes(added=NONE, removed=NONE, current=ONE))
        assert self.read(target) == ONE

    def test_no_smtpctl(self, target: Map) -> None:
        (self.smtpd.directory / "smtpctl").unlink()
        with pytest.raises(MapError, match="smtpctl is not installed"):
            target.write(Changes(added=ONE, removed=NONE, current=ONE))

    def test_no_smtpd_runs(self, target: Map) -> None:
        """It will read the file at its start, so all is well."""
        self.smtpd.script(NOT_RUNNING)
        self.smtpd.process("master")
        target.write(Changes(added=ONE, removed=NONE, current=ONE))
        assert target.path.read_text() == f"{PLACEHOLDER}\n192.0.2.10\n"
        target.clear()

    def test_an_smtpd_that_just_starts(self, target: Map) -> None:
        """It may have read the old file, and cannot be told yet."""
        self.smtpd.script(NOT_RUNNING)
        self.smtpd.process("smtpd")
        with pytest.raises(MapError, match="seem to be running"):
            target.write(Changes(added=ONE, removed=NONE, current=ONE))

    def test_a_line_opens_one_address(self, target: Map, monkeypatch: pytest.MonkeyPatch) -> None:
        """What smtpd takes for a network (``192.0.2``, ``/8``) or for several spellings never reaches the file."""
        monkeypatch.setattr("pop_before_smtp_opensmtpd._maps.update_table", lambda _: None)

        @hypothesis.settings(max_examples=200, deadline=None)
        @hypothesis.given(address=st.ip_addresses(), data=st.data())
        def check(address: Any, data: st.DataObject) -> None:
            plain = str(address)
            cut = plain[: data.draw(st.integers(0, len(plain)))]
            odd = [plain, cut, address.exploded, f"{plain}/8", f"{plain}/0", f"{plain}%1", f"::ffff:{plain}"]
            odd += [f"[{plain}]", f"ipv6:{plain}", f"{plain}\n::/0", f"!{plain}", plain.upper(), data.draw(st.text())]
            for key in odd:
                try:
                    target.write(Changes(added={key}, removed=NONE, current={key}))
                except MapError:
                    continue
                _, *lines = target.path.read_text().split("\n")[:-1]
                assert [ip_network(line) for line in lines] == [ip_network(ip_address(key))] or key == PLACEHOLDER
                assert lines in ([key], [])

        check()


def problems(**settings: str) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        WRITER.open(Settings(**settings))
    return caught.value.problems


@pytest.mark.parametrize(
    ("spelt", "says"),
    [
        ("/srv/hosts", "no table in a text file"),
        ("db:/srv/hosts", "no table in a text file"),
        ("", "no table in a text file"),
        ("file:hosts", "absolute path"),
        ("file:", "absolute path"),
        ("file:/srv/", "absolute path"),
        ('file:/srv/a"b', "absolute path"),
        ("file:/srv/a\n", "absolute path"),
    ],
)
def test_wrong_map(spelt: str, says: str) -> None:
    (problem,) = problems(map=spelt)
    assert problem.startswith("map: ")
    assert says in problem
    assert "\n" not in problem


def test_all_problems_at_once() -> None:
    found = problems(map="hash:relay", table="-x", config_file="smtpd.conf")
    assert [line.partition(":")[0] for line in found] == ["map", "table", "config_file"]


@pytest.mark.usefixtures("fake_smtpd")
def test_defaults_can_be_opened(tmp_path: Path) -> None:
    assert WRITER.defaults
    chosen: Any = WRITER.defaults(tmp_path)
    assert chosen == {"map": f"file:{tmp_path}/hosts"}
    assert WRITER.open(Settings(**chosen)).path == tmp_path / "hosts"


@pytest.mark.usefixtures("no_smtpd")
def test_no_defaults_without_opensmtpd(tmp_path: Path) -> None:
    assert WRITER.defaults
    assert WRITER.defaults(tmp_path) is None
