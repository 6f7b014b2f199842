"""smtpd.conf, form by form, as OpenSMTPD 6.8 was seen to read it."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
from pop_before_smtp_opensmtpd import Settings, _netblocks, pop_before_smtp_writers

(WRITER,) = pop_before_smtp_writers()
MAP = "file:/srv/pbs/hosts"
OURS = f'table pbs {MAP}\naction "r" relay\nmatch from src <pbs> for any action "r"\n'
ALL = ["0.0.0.0/0", "::/0"]
LOOPBACK = ["127.0.0.0/8", "::1/128"]
Read = Callable[[str], tuple[list[str], list[str]]]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Return ``read(smtpd.conf)`` -> (entries, exclusions with a ``!``; warnings)."""

    def run(config: str) -> tuple[list[str], list[str]]:
        file = tmp_path / "smtpd.conf"
        file.write_text(config)
        assert WRITER.netblocks
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            found = list(WRITER.netblocks(Settings(map=MAP, config_file=str(file))))
        entries = [("" if permitted else "!") + str(network) for network, permitted in found]
        return entries, [str(warning.message) for warning in caught]

    return run


@pytest.mark.parametrize(
    ("rules", "entries"),
    [
        pytest.param("", [], id="ours only"),
        pytest.param("match from local for any action r", LOOPBACK, id="local"),
        pytest.param('match for any action "r"', LOOPBACK, id="local is what from means when it is left out"),
        pytest.param("match from src 10.0.0.5/8 for any action r", ["10.0.0.0/8"], id="network"),
        pytest.param('match for any from src "2001:DB8::/32" action r', ["2001:db8::/32"], id="other order"),
        pytest.param(
            "match from src { 10.0.0.1, ::1 10.0.0.2 } for any action r",
            ["10.0.0.1/32", "::1/128", "10.0.0.2/32"],
            id="list",
        ),
        pytest.param(
            "table n {\n 10.0.0.1, # one\n ::1\n}\nmatch from src <n> for any action r",
            ["10.0.0.1/32", "::1/128"],
            id="table",
        ),
        pytest.param('nets = "10.0.0.0/8"\nmatch from src $nets for any action r', ["10.0.0.0/8"], id="macro"),
        pytest.param("match from src 10.0.0.0/8 \\\n for any \\\n action r", ["10.0.0.0/8"], id="broken line"),
        pytest.param("match from any for any action r", ALL, id="everybody is the core's business"),
        pytest.param("match from src 10.0.0.0/8 for any reject", ["!10.0.0.0/8"], id="reject"),
        pytest.param(
            "match from src 10.0.0.1 for any reject\nmatch from src 10.0.0.0/8 for any action r",
            ["!10.0.0.1/32", "10.0.0.0/8"],
            id="in order",
        ),
        pytest.param("match from any for any reject", ["!0.0.0.0/0", "!::/0"], id="an end to all"),
        pytest.param("match from socket for any action r", [], id="socket"),
        pytest.param('match from any for domain "x.example" action "l"', [], id="for some recipients"),
        pytest.param("match from local for local action l", [], id="for local ones"),
        pytest.param("match action l", [], id="nothing said"),
        *(
            pytest.param(f"match {rule} action r", [], id=rule)
            for rule in (
                "auth from any for any",
                "from any auth for any",
                "from auth for any",
                "tls from any for any",
                "from any for any tag X",
                "from rdns x.example for any",
                "from any ! for domain x.example",
                'from any mail-from "@x.example" for any',
            )
        ),
    ],
)
def test_forms(read: Read, rules: str, entries: list[str]) -> None:
    assert read(f"{OURS}{rules}\n") == (entries, [])


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("192.0.2", "is no network"),
        ("10.0.0.0/255.0.0.0", "is no network"),
        ("[2001:db8::1]", "is no network"),
        ("<nowhere>", "cannot be read"),
        ("<gone>", "cannot be read"),
        ("<db>", "db:/etc/nets.db cannot be listed"),
        ("<sql>", "sqlite:/etc/nets.conf cannot be listed"),
    ],
)
def test_what_cannot_be_listed(read: Read, source: str, says: str) -> None:
    """A rule that permits is passed over; one that rejects ends the reading."""
    tables = "table db db:/etc/nets.db\ntable sql sqlite:/etc/nets.conf\ntable gone file:/nowhere/nets\n"
    end = "match from src 10.0.0.0/8 for any action r\n"
    entries, (warned,) = read(f"{OURS}{tables}match from src {source} for any action r\n{end}")
    assert entries == ["10.0.0.0/8"]
    assert says in warned
    entries, (warned,) = read(f"{OURS}{tables}match from src {source} for any reject\n{end}")
    assert entries == []
    assert says in warned
    assert "left out" in warned


@pytest.mark.parametrize(
    "rule",
    [
        "! from src 10.0.0.0/8 for any",
        "!from src 10.0.0.0/8 for any",
        "from any mail-from <bad> for any",
        "from any for domain x",
        "tls from any for any",
    ],
)
def test_a_rejection_with_conditions_ends_the_list(read: Read, rule: str) -> None:
    entries, (warned,) = read(f"{OURS}match {rule} reject\nmatch from src 10.0.0.0/8 for any action r\n")
    assert entries == []
    assert "more than networks" in warned


def test_all_but_some(read: Read) -> None:
    entries, (warned,) = read(f"{OURS}match !from src 10.0.0.0/8 for any action r\nmatch for any action r\n")
    assert entries == LOOPBACK
    assert "more than networks" in warned


def test_an_action_called_reject(read: Read) -> None:
    assert read(f"{OURS}match from src 10.0.0.1 for any action reject\n") == (["10.0.0.1/32"], [])


class TestFiles:
    def test_table(self, read: Read, tmp_path: Path) -> None:
        (tmp_path / "nets").write_text("# nets\n10.0.0.0/8\n\n  2001:db8::1\n")
        for kind in ("file:", "static:", ""):
            rules = f'table nets "{kind}{tmp_path}/nets"\nmatch from src <nets> for any action r\n'
            assert read(OURS + rules) == (["10.0.0.0/8", "2001:db8::1/128"], [])

    def test_maps_of_other_writers(self, read: Read) -> None:
        rules = "table late file:/srv/pbs/late\nmatch from src <late> for any action r\n"
        assert read(OURS + rules) == ([], [])

    def test_included(self, read: Read, tmp_path: Path) -> None:
        (tmp_path / "more").write_text("match from src $net for any action r\n")
        assert read(f'{OURS}net = "10.0.0.0/8"\ninclude "{tmp_path}/more"\n') == (["10.0.0.0/8"], [])

    def test_included_by_itself(self, read: Read, tmp_path: Path) -> None:
        entries, _ = read(f'{OURS}match for any action r\ninclude "{tmp_path}/smtpd.conf"\n')
        assert set(entries) == set(LOOPBACK)

    def test_included_but_not_there(self, read: Read) -> None:
        entries, (warned,) = read(f'{OURS}include "/nowhere/more"\n')
        assert entries == LOOPBACK
        assert "/nowhere/more cannot be read" in warned


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ("", "does not have the line: table pbs file:/srv/pbs/hosts"),
        ("table pbs file:/srv/other\nmatch from src <pbs> for any action r", "does not have the line"),
        ("table pbs db:/srv/pbs/hosts\nmatch from src <pbs> for any action r", "does not have the line"),
        (f"table pbs {MAP}\nmatch from src <other> for local action r", "has no rule"),
        (f"table pbs {MAP}\nmatch from src <pbs> for any reject", "has no rule"),
    ],
)
def test_a_configuration_in_which_leases_do_not_count(read: Read, config: str, says: str) -> None:
    entries, warned = read(config)
    assert entries == []
    assert says in warned[0]


def test_a_rule_with_conditions_is_a_rule(read: Read) -> None:
    assert read(f"table pbs {MAP}\nmatch tls from src <pbs> for any action r\n") == ([], [])


def test_without_a_configuration_only_loopback_is_permitted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_netblocks, "CONFIG_FILES", ("/nowhere/smtpd.conf",))
    assert WRITER.netblocks
    for file, says in (("", "OpenSMTPD is not installed"), ("/gone/smtpd.conf", r"/gone/smtpd\.conf cannot be read")):
        with pytest.warns(UserWarning, match=says):
            found = list(WRITER.netblocks(Settings(map=MAP, config_file=file)))
        assert [str(network) for network, _ in found] == LOOPBACK


@pytest.mark.parametrize(
    "text", ['"', "match", "table", "include", "{", "}", "match from", "= x", '"a\nb"', "match <", "\\"]
)
def test_nonsense_is_no_crash(read: Read, text: str) -> None:
    assert read(f"{OURS}{text}\n")[0] in ([], LOOPBACK)
