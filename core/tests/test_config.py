"""The configuration: every problem at once, each with the path of its key and what to do."""

from pathlib import Path
from typing import Any

import pytest
from pop_before_smtp import ConfigError
from pop_before_smtp._config import build, netblocks, read


def problems(data: dict[str, Any]) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        build(data)
    assert caught.value.exit_code == 78
    return list(caught.value.problems)


def test_a_whole_configuration(parser_plugin: str, writer_plugin: str, tmp_path: Path) -> None:
    file = tmp_path / "pop-before-smtp.toml"
    file.write_text(f"""
        plugins = ["{parser_plugin}", "{writer_plugin}"]
        grace = "30m"
        state_dir = "{tmp_path}/state"
        [[source]]
        path = "/var/log/mail.log"
        timezone = "Europe/Berlin"
        [policy]
        exempt = ["10.0.0.0/8", "2001:db8::/32"]
        [[writer]]
        use = "textfile"
        map = "/tmp/map"
        grace = 60
        [[writer]]
        use = "textfile"
        map = "/tmp/other"
        services = ["pop3"]
    """)
    config = build(read(file), str(file))
    assert [config.grace_of(writer) for writer in config.writers] == [60, 1800]
    assert config.longest_grace == 1800
    assert config.writers[1].outlet.services == ("pop3",)
    assert config.writers[0].label == "/tmp/map"
    assert [source.name for source in config.sources] == ["/var/log/mail.log"]
    assert [str(net) for net in config.policy.exempt] == ["10.0.0.0/8", "2001:db8::/32"]


def test_every_problem_is_named_with_its_path(parser_plugin: str, writer_plugin: str) -> None:
    said = problems(
        {
            "plugins": [parser_plugin, writer_plugin, "nosuch"],
            "grase": "30m",
            "grace": "half an hour",
            "source": [{"path": "/a", "format": "klingon"}, {"pth": "/b"}],
            "policy": {"exempt": ["10.0.0.1/8"], "max_leases": "many", "private_addresses": "maybe"},
            "writer": [{"use": "textfile", "map": 5, "depht": 2}, {"use": "postfx", "map": "x"}, {"map": "y"}],
        }
    )
    beginnings = [line.split(":")[0] for line in said]
    for path in (
        "plugins[2]",
        "grase",
        "grace",
        "source[1].pth",
        "policy.exempt[0]",
        "policy.max_leases",
        "policy.private_addresses",
        "writer[0].map",
        "writer[0].depht",
        "writer[1].use",
        "writer[2].use",
    ):
        assert path in beginnings
    assert 'did you mean "grace"?' in next(line for line in said if line.startswith("grase"))
    assert 'did you mean "depth"?' in next(line for line in said if line.startswith("writer[0].depht"))
    assert 'did you mean "10.0.0.0/8"?' in next(line for line in said if line.startswith("policy.exempt"))
    assert all("\n" not in line for line in said)


@pytest.mark.parametrize(
    ("value", "seconds"), [(1800, 1800), ("90s", 90), ("30m", 1800), ("2h", 7200), ("1d", 86400), ("5 m", 300)]
)
def test_durations(value: object, seconds: int, parser_plugin: str) -> None:
    assert build({"plugins": [parser_plugin], "grace": value}).grace == seconds


@pytest.mark.parametrize("value", [0, -5, True, 1.5, "0m", "30", "m", "1w", "-1h", [], ""])
def test_no_durations(value: object, parser_plugin: str) -> None:
    assert problems({"plugins": [parser_plugin], "grace": value})[0].startswith("grace: ")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"source": "x"}, 'source: "x" is no list'),
        ({"source": [5]}, "source[0]: 5 is no table"),
        ({"writer": "x"}, "writer: write it as a list of tables"),
        ({"policy": []}, "policy: [] is no table"),
        ({"policy": {"max_addresses_per_user": 0}}, "policy.max_addresses_per_user: must be 1 or more"),
        ({"plugins": "dovecot"}, 'plugins: "dovecot" is no list'),
        ({"source": [{"path": "/a"}, {"path": "/a"}]}, 'source[1].path: "/a" is followed already'),
        ({"source": [{"journal": True}, {"journal": True}]}, 'source[1].journal: "journal" is followed already'),
        ({"source": [{}]}, "source[0]: name one of path, journal, command, listen"),
        ({"source": [{"path": "/a", "journal": True}]}, "source[0]: name one of path, journal, command, listen, not "),
        ({"source": [{"path": "/a", "units": ["x"]}]}, "source[0].units: a source with path does not have this key"),
        ({"source": [{"journal": True, "format": "syslog"}]}, "source[0].format: a source with journal does not"),
        ({"source": [{"command": ["x"], "missing": "wait"}]}, "source[0].missing: a source with command does not"),
        ({"source": [{"path": "/a", "escaped": 1}]}, 'source[0].escaped: 1 is none of "auto", true, false'),
        ({"source": [{"listen": "/a", "mode": "660x"}]}, 'source[0].mode: "660x" is no mode'),
        ({"source": [{"listen": "/a", "mode": "0666"}]}, 'source[0].mode: "0666" lets everybody'),
        ({"source": [{"path": "/a", "timezone": "Mars/Olympus"}]}, "source[0].timezone: "),
        ({"source": [{"path": "/a", "format": "klingon"}]}, 'source[0].format: "klingon" is none of auto, syslog'),
        ({"state_dir": 5}, "state_dir: 5 is no path"),
        ({"policy": {"require_tls": "yes"}}, 'policy.require_tls: "yes" is no boolean'),
    ],
)
def test_single_problems(data: dict[str, Any], said: str) -> None:
    assert any(line.startswith(said) for line in problems(data))


def test_writers_alone_read_no_log(writer_plugin: str) -> None:
    assert problems({"plugins": [writer_plugin]})[0].startswith("plugins: none of them parses a log")


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    for name, text, said in (
        ("syntax.toml", b"grace = \n", "line 1"),
        ("latin.toml", b"# \xff\n", "is not UTF-8"),
        ("perl.conf", b"$pat = '^(... .. ..:..:..) x';\n1;\n", "docs/migration.md"),
    ):
        (tmp_path / name).write_bytes(text)
        with pytest.raises(ConfigError, match=said):
            read(tmp_path / name)
    with pytest.raises(ConfigError, match="No such file"):
        read(tmp_path / "missing.toml")


def test_netblocks_that_let_everybody_relay(parser_plugin: str, writer_plugin: str) -> None:
    table = {"use": "textfile", "map": "/tmp/m", "netblocks": ["0.0.0.0/1", "128.0.0.0/1"]}
    config = build({"plugins": [parser_plugin, writer_plugin], "writer": [table]})
    with pytest.raises(ConfigError, match=r"writer\[0\]\.netblocks: the mail server lets every address relay"):
        netblocks(config.writers[0])
