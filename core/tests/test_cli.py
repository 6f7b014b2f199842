"""The commands that look and change nothing, as somebody at a terminal would use them."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from playground import DEADLINE, Site
from pop_before_smtp import LOGIN, LoginEvent
from pop_before_smtp._cli._common import printable, span
from pop_before_smtp._cli._match import as_dict, as_json_text

# -- check


def test_check_prints_what_is_in_force(site: Site) -> None:
    code, out, _ = site("check", "-c", str(site.file))
    assert code == 0
    assert f'[[source]]\npath = "{site.log}"' in out
    assert "grace = 1800" in out
    code, out, _ = site("check", "-c", str(site.file), "--json")
    assert json.loads(out)["policy"]["max_leases"] == 100_000
    assert not site.map.exists()
    assert not (site.folder / "state").exists()


def test_what_check_prints_is_a_configuration(site: Site) -> None:
    _, out, _ = site("check", "-c", str(site.file))
    again = site.folder / "again.toml"
    again.write_text(out)
    assert site("check", "-c", str(again))[0] == 0


def break_key(site: Site) -> None:
    site.configure(top="grase = 5")


def break_type(site: Site) -> None:
    site.configure(policy="max_leases = 'many'")


def break_plugin(site: Site) -> None:
    site.configure()
    site.file.write_text(site.file.read_text().replace('"popd"', '"popd", "nosuch"'))


def break_log(site: Site) -> None:
    site.configure(path=f"{site.folder}/nosuch.log")


def break_log_folder(site: Site) -> None:
    site.configure(path=str(site.folder))


def break_map_folder(site: Site) -> None:
    site.map = site.folder / "nosuch" / "relay"
    site.configure()


def break_map_folder_rights(site: Site) -> None:
    site.map = site.folder / "open" / "relay"
    site.map.parent.mkdir()
    site.map.parent.chmod(0o777)
    site.configure()


def break_map_owner(site: Site) -> None:
    site.map.write_text("192.0.2.1\n")


def break_network(site: Site) -> None:
    site.configure(policy='exempt = ["10.0.0.0/33"]')


def break_state(site: Site) -> None:
    (site.folder / "state").write_text("a file")


@pytest.mark.parametrize(
    ("spoil", "key"),
    [
        (break_key, "grase"),
        (break_type, "policy.max_leases"),
        (break_plugin, "plugins[1]"),
        (break_log, "source[0].path"),
        (break_log_folder, "source[0].path"),
        (break_map_folder, "writer[0].map"),
        (break_map_folder_rights, "writer[0].map"),
        (break_map_owner, "writer[0].map"),
        (break_network, "policy.exempt[0]"),
        (break_state, "state_dir"),
    ],
)
@pytest.mark.parametrize("command", ["check", "run"])
def test_each_wrong_configuration_is_one_clear_line(
    site: Site, spoil: Callable[[Site], None], key: str, command: str
) -> None:
    spoil(site)
    before = site.map.read_text() if site.map.exists() else None
    code, _, err = site(command, "-c", str(site.file))
    complaints = [line for line in err.splitlines() if line.startswith("pop-before-smtp: ")]
    assert (code, len(complaints)) == (78, 1)
    assert complaints[0].startswith(f"pop-before-smtp: {key}: ")
    assert "Traceback" not in err
    assert (site.map.read_text() if site.map.exists() else None) == before


def test_wrong_usage_is_64(site: Site) -> None:
    for args in (["chek"], ["check", "--nosuch"], ["match"], ["--nosuch"]):
        code, _, err = site(*args)
        assert code == 64
        assert len(err.splitlines()) == 1


def test_help_and_version(site: Site) -> None:
    assert "explain" in site("--help")[1]
    assert site("--version") == (0, "pop-before-smtp 2.0.0\n", "")


# -- match and explain


def test_match_prints_a_json_object_per_event(site: Site) -> None:
    site.log.write_text(
        "2026-11-22T08:40:21.123456+00:00 mail popd: login ann from 203.0.113.7\n"
        "2026-11-22T08:40:22.5+00:00 mail other: login ann from 203.0.113.66\n"
        "Nov 22 garbage \xff\n"
        "2026-11-22T08:40:23+00:00 mail popd: login bob from 2001:DB8::7"
    )
    code, out, err = site("match", "--json", "--parser", "popd", "--kind", "login", str(site.log))
    assert code == 0
    assert [json.loads(line) for line in out.splitlines()] == [
        {
            "line": 1,
            "kind": "login",
            "address": "203.0.113.7",
            "user": "ann",
            "service": "pop3",
            "tls": None,
            "session": None,
            "time": "2026-11-22T08:40:21.123456+00:00",
            "parser": "popd",
        },
        {
            "line": 4,
            "kind": "login",
            "address": "2001:db8::7",
            "user": "bob",
            "service": "pop3",
            "tls": None,
            "session": None,
            "time": "2026-11-22T08:40:23.000000+00:00",
            "parser": "popd",
        },
    ]
    assert err.splitlines() == ["4 lines", "2 popd login"]


@given(
    text=st.text(st.characters(codec="utf-8"), max_size=5) | st.just("\udcff"),
    tls=st.sampled_from([None, True, False]),
    at=st.floats(0, 4e9),
)
def test_the_fast_json_is_the_plain_json(text: str, tls: bool | None, at: float) -> None:
    event = LoginEvent(kind=LOGIN, address="2001:db8::7", at=at, received=at, user=text, tls=tls, parser="popd")
    assert as_json_text(event, 7) == json.dumps(as_dict(event, 7))


def test_match_for_people_says_what_was_refused(site: Site) -> None:
    site.login("127.0.0.1")
    site.login("203.0.113.7", user="ann")
    code, out, err = site("match", "--parser", "popd", str(site.log))
    assert code == 0
    assert " login 203.0.113.7 ann pop3 - popd" in out
    assert "1 refused: loopback" in err


def test_match_shows_what_no_pattern_took(site: Site) -> None:
    site.login("203.0.113.7")
    odd = site.line("x y\rz")
    site.log.write_text(site.log.read_text() + odd + "\n" + site.line("x", program="smtpd") + "\n", newline="")
    code, out, _ = site("match", "--unmatched", "--parser", "popd", str(site.log))
    assert code == 0
    assert [line.split(": ")[0] for line in out.splitlines()] == ["2"]


def test_match_of_an_unknown_parser_or_file(site: Site) -> None:
    code, _, err = site("match", "--parser", "klingon", str(site.log))
    assert code == 78
    assert '--parser: there is no "klingon"' in err
    code, _, err = site("match", "--parser", "popd", str(site.folder / "nosuch"))
    assert code == 1
    assert len(err.splitlines()) == 1


def test_match_reads_standard_input(site: Site) -> None:
    process = site.start("match", "--json", "--parser", "popd", "-")
    out, err = process.communicate(site.line("203.0.113.7") + "\n" + site.line("203.0.113.8"), timeout=DEADLINE)
    assert [json.loads(line)["line"] for line in out.splitlines()] == [1, 2]
    assert err.splitlines()[0] == "2 lines"


def test_explain_shows_each_step(site: Site) -> None:
    site.configure(policy='refuse = ["198.51.100.0/24"]', writer='services = ["imap"]')
    code, out, _ = site("explain", "-c", str(site.file), "--json", site.line("203.0.113.7"))
    found = json.loads(out)
    assert code == 0
    assert found["header"]["program"] == "popd"
    assert found["patterns"][0]["captured"] == {"user": "ann", "ip": "203.0.113.7"}
    assert found["verdict"] == "may relay"
    assert found["writers"] == {str(site.map): "no lease: service"}
    assert json.loads(site("explain", "-c", str(site.file), "--json", site.line("198.51.100.1"))[1])["verdict"] == (
        "refused: refused_network"
    )


@pytest.mark.parametrize(
    ("line", "verdict"),
    [
        ("rubbish", "no header of a known kind"),
        ("Nov 22 09:00:00 mail smtpd: login ann from 203.0.113.7", "no parser reads this program"),
        ("Nov 22 09:00:00 mail popd: logim ann from 203.0.113.7", "no pattern of this program matches"),
        ("Nov 22 09:00:00 mail popd: login ann from 127.0.0.1", "refused: loopback"),
    ],
)
def test_explain_says_why_not(site: Site, line: str, verdict: str) -> None:
    code, out, _ = site("explain", "-c", str(site.file), line)
    assert code == 0
    assert f"verdict:  {verdict}" in out


def test_control_characters_do_not_reach_the_terminal() -> None:
    assert printable("a\x1b[31m\x07\udcff") == "a\\x1b[31m\\x07\\udcff"


def test_spans_of_time() -> None:
    assert [span(seconds) for seconds in (0, 59, 61, 3600, -5)] == ["0s", "59s", "1m01s", "1h00m", "0s"]


def test_plugins_are_listed_with_their_problems(site: Site, install: Callable[..., str]) -> None:
    install("broken", "1 / 0")
    code, out, _ = site("plugins", "--json")
    rows: dict[str, Any] = {row["name"]: row for row in json.loads(out)}
    assert code == 1
    assert rows["popd"]["parsers"] == ["popd"]
    assert "ZeroDivisionError" in rows["broken"]["problem"]
    assert "textfile" in site("plugins")[1]
