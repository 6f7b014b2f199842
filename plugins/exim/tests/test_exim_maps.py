"""The contract for both kinds of file, and what a ``[[writer]]`` for exim may say."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st
from pop_before_smtp.api import Changes, Map
from pop_before_smtp.errors import ConfigError, MapError
from pop_before_smtp.maps import cdb, text
from pop_before_smtp.testing import WriterTests
from pop_before_smtp_exim import Settings, pop_before_smtp_writers
from pop_before_smtp_exim._hostlist import UnlistableError, entries

(WRITER,) = pop_before_smtp_writers()


class EximTests(WriterTests):
    writer = WRITER
    mode = 0o644

    @pytest.fixture(autouse=True)
    def _exim(self, fake_exim: Any) -> None:
        assert fake_exim


class TestHosts(EximTests):
    def settings(self, directory: Path) -> Settings:
        return Settings(map=f"hosts:{directory}/hosts")

    def read(self, target: Map) -> set[str]:
        return {line.decode() for line in text.read(target.path)}

    def test_a_line_opens_one_address(self, target: Map) -> None:
        """Whatever is written is, read by exim's rules, one address; and the address is the one that was meant."""

        @hypothesis.settings(max_examples=200, deadline=None)
        @hypothesis.given(address=st.ip_addresses(), data=st.data())
        def check(address: Any, data: st.DataObject) -> None:
            plain = str(address)
            cut = plain[: data.draw(st.integers(0, len(plain)))]
            odd = [plain, cut, address.exploded, f"!{plain}", f"{plain}/8", f"{plain}%1", f"::ffff:{plain}", f"{cut}*"]
            odd += [f"{plain} : *", f"{plain}\n*", f"#{plain}", f"@{plain}", f"/{plain}", f"+{plain}", f"<; {plain}"]
            odd += [f"net-{plain};", f"[{plain}]", f"{plain}.", f" {plain}", plain.upper(), data.draw(st.text())]
            for key in odd:
                try:
                    target.write(Changes(added={key}, removed=frozenset(), current={key}))
                except MapError:
                    continue
                wanted = [(ip_network(ip_address(key)), True)]
                assert self.read(target) == {key}
                assert list(entries("r", {"r": str(target.path)}, Path("/nowhere"))) == wanted

        check()


class TestCdb(EximTests):
    def settings(self, directory: Path) -> Settings:
        return Settings(map=f"cdb:{directory}/relay.cdb")

    def read(self, target: Map) -> set[str]:
        found = cdb.read(target.path)
        assert set(found.values()) <= {b"yes"}
        return {key.decode() for key in found}


def problems(**settings: str) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        WRITER.open(Settings(**settings))
    return caught.value.problems


@pytest.mark.parametrize("spelt", ["hosts:/srv/pop-before-smtp/hosts", "cdb:/srv/relay", "cdb:/srv/r+1.cdb"])
def test_path_is_the_file_that_exim_opens(spelt: str) -> None:
    assert WRITER.open(Settings(map=spelt)).path == Path(spelt.partition(":")[2])


@pytest.mark.parametrize(
    ("spelt", "says"),
    [
        ("/srv/hosts", "neither hosts:/path nor cdb:/path"),
        ("", "neither"),
        ("lsearch:/srv/hosts", "neither"),
        ("HOSTS:/srv/hosts", "neither"),
        ("hosts:hosts", "no absolute path"),
        ("hosts:", "no absolute path"),
        ("hosts:/srv/", "no absolute path"),
        ("hosts:/srv//hosts", "no absolute path"),
        ("hosts:/srv/a b", "no absolute path"),
        ("hosts:/srv/a:b", "no absolute path"),
        ("hosts:/srv/a;b", "no absolute path"),
        ("cdb:/srv/$x", "no absolute path"),
        ("cdb:/srv/a}b", "no absolute path"),
        ("hosts:/srv/a\n", "no absolute path"),
    ],
)
def test_wrong_map(spelt: str, says: str) -> None:
    (problem,) = problems(map=spelt)
    assert problem.startswith("map: ")
    assert says in problem
    assert "\n" not in problem


def test_all_problems_at_once() -> None:
    found = problems(map="cdb:relay", value="", hostlist="a b")
    assert [line.partition(":")[0] for line in found] == ["map", "value", "hostlist"]


@pytest.mark.usefixtures("fake_exim")
def test_defaults_can_be_opened(tmp_path: Path) -> None:
    assert WRITER.defaults
    chosen: Any = WRITER.defaults(tmp_path)
    assert chosen == {"map": f"hosts:{tmp_path}/hosts"}
    assert WRITER.open(Settings(**chosen)).path == tmp_path / "hosts"


@pytest.mark.usefixtures("no_exim")
def test_no_defaults_without_exim(tmp_path: Path) -> None:
    assert WRITER.defaults
    assert WRITER.defaults(tmp_path) is None


def test_a_line_that_is_no_address_ends_the_reading(tmp_path: Path) -> None:
    """The other side of the property above: its reader does see more in other lines."""
    (tmp_path / "nets").write_text("10.0.0.0/8\n*\nhost.example\n")
    found = entries("r", {"r": f"{tmp_path}/nets"}, Path("/nowhere"))
    assert [str(next(found)[0]) for _ in range(3)] == ["10.0.0.0/8", "0.0.0.0/0", "::/0"]
    with pytest.raises(UnlistableError):
        next(found)
