"""What a ``[[writer]]`` for Postfix may say, and what is said about what it may not."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from pop_before_smtp.api import Lookup
from pop_before_smtp.errors import ConfigError
from pop_before_smtp_postfix import Settings, pop_before_smtp_writers

(WRITER,) = pop_before_smtp_writers()


def problems(**settings: str) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        WRITER.open(Settings(**settings))
    return caught.value.problems


@pytest.mark.usefixtures("fake_postfix")
class TestOpen:
    @pytest.mark.parametrize(
        ("table", "file"),
        [
            ("lmdb:/srv/relay", "/srv/relay.lmdb"),
            ("cdb:/srv//relay", "/srv/relay.cdb"),
            ("hash:/srv/relay", "/srv/relay.db"),
            ("btree:/srv/re lay", "/srv/re lay.db"),
        ],
    )
    def test_path_is_the_file_that_postfix_opens(self, table: str, file: str) -> None:
        assert WRITER.open(Settings(map=table)).path == Path(file)

    @pytest.mark.parametrize("kind", ["lmdb", "cdb", "hash", "btree"])
    def test_only_lmdb_is_changed_in_place(self, kind: str) -> None:
        target = WRITER.open(Settings(map=f"{kind}:/srv/relay"))
        assert target.rewrites is (kind != "lmdb")
        assert not target.networks

    def test_sockets(self) -> None:
        asked = WRITER.open(Settings(map="socketmap:unix:/run/x/relay"))
        assert asked == Lookup(protocol="socketmap", listen="unix:/run/x/relay", reply="OK", mode="0666")
        policy = Settings(map="policy:unix:/run/x/relay", value="permit", mode="0660", group="postfix")
        assert WRITER.open(policy) == Lookup(
            protocol="policy", listen="unix:/run/x/relay", reply="permit", mode="0660", group="postfix"
        )
        remote = WRITER.open(Settings(map="socketmap:inet:0.0.0.0:7777", allow_remote=True))
        assert (remote.listen, remote.allow_remote) == ("inet:0.0.0.0:7777", True)

    @pytest.mark.parametrize(
        ("table", "says"),
        [
            ("/srv/relay", "none of the tables lmdb, cdb, hash, btree"),
            ("", "none of the tables"),
            ("dbm:/srv/relay", "none of the tables"),
            ("LMDB:/srv/relay", "none of the tables"),
            ("texthash:/srv/relay", "do not notice"),
            ("cidr:/srv/relay", "do not notice"),
            ("inline:{a=b}", "do not notice"),
            ("proxy:hash:/srv/relay", "leave out proxy:"),
            ("lmdb:relay", "absolute path"),
            ("lmdb:", "absolute path"),
            ("lmdb:/srv/", "absolute path"),
            ("cdb:/srv/relay.cdb", "write cdb:/srv/relay"),
            ("hash:/srv/relay.db", "write hash:/srv/relay"),
        ],
    )
    def test_wrong_map(self, table: str, says: str) -> None:
        (problem,) = problems(map=table)
        assert problem.startswith("map: ")
        assert says in problem
        assert "\n" not in problem

    @pytest.mark.parametrize(
        ("table", "says"),
        [
            ("socketmap:unix:/run/x/relay:pop-before-smtp", "leave out the name behind the socket (:pop-before-smtp)"),
            ("policy:unix:/run/x/relay:x", "leave out the name"),
        ],
    )
    def test_wrong_socket(self, table: str, says: str) -> None:
        (problem,) = problems(map=table)
        assert problem.startswith("map: ")
        assert says in problem

    @pytest.mark.parametrize(
        ("keys", "wrong"),
        [
            ({"map": "cdb:/srv/relay", "mode": "0660", "group": "x", "allow_remote": True}, "mode group allow_remote"),
            ({"map": "socketmap:inet:127.0.0.1:7777", "mode": "0660", "group": "x"}, "mode group"),
            ({"map": "policy:unix:/run/x/relay", "allow_remote": True}, "allow_remote"),
            ({"map": "policy:unix:/run/x/relay", "value": "DUNNO"}, "value"),
        ],
    )
    def test_keys_that_are_of_no_use(self, keys: dict[str, Any], wrong: str) -> None:
        assert [line.partition(":")[0] for line in problems(**keys)] == wrong.split()

    @pytest.mark.parametrize("value", ["OK", "ok", "RELAY", "relay", "PERMIT", "permit", "1", "250"])
    def test_values_that_permit(self, value: str) -> None:
        assert WRITER.open(Settings(map="cdb:/srv/relay", value=value))

    @pytest.mark.parametrize(
        "value", ["", "REJECT", "DUNNO", "permit_auth_destination", "192.0.2.1", "OK\n", "550 no", "DISCARD", " "]
    )
    def test_values_that_do_not(self, value: str) -> None:
        (problem,) = problems(map="cdb:/srv/relay", value=value)
        assert problem.startswith("value: ")

    def test_all_problems_at_once(self) -> None:
        found = problems(map="cdb:relay", value="REJECT", config_directory="etc")
        assert [line.partition(":")[0] for line in found] == ["map", "value", "config_directory"]

    @pytest.mark.parametrize("kind", ["lmdb", "hash"])
    def test_missing_python_package(self, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
        package, module = {"lmdb": ("lmdb", "lmdb"), "hash": ("berkeleydb", "bdb")}[kind]
        monkeypatch.setitem(sys.modules, package, None)
        monkeypatch.delitem(sys.modules, f"pop_before_smtp.maps.{module}", raising=False)
        (problem,) = problems(map=f"{kind}:/srv/relay")
        assert f"pip install 'pop-before-smtp-postfix[{module}]'" in problem


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ("lmdb:/srv/relay", "postfix-lmdb"),
        ("cdb:/srv/relay", "postfix-cdb"),
        ("btree:/srv/r", "hash"),
        ("socketmap:unix:/srv/r", "hash"),
    ],
)
def test_table_type_that_postfix_lacks(fake_postfix: Any, table: str, says: str) -> None:
    fake_postfix.say(m="hash\nstatic\n")
    (problem,) = problems(map=table)
    assert problem.startswith("map: this Postfix has no")
    assert says in problem


@pytest.mark.usefixtures("no_postfix")
def test_without_postfix_the_type_is_not_checked() -> None:
    with pytest.warns(UserWarning, match="postconf is not installed"):
        assert WRITER.open(Settings(map="cdb:/srv/relay")).path == Path("/srv/relay.cdb")


class TestDefaults:
    @staticmethod
    def defaults() -> Any:
        assert WRITER.defaults
        return WRITER.defaults(Path("/var/lib/x"))

    @pytest.mark.parametrize(
        ("types", "best"), [("hash cdb lmdb btree", "lmdb"), ("cdb hash", "cdb"), ("btree hash", "hash")]
    )
    def test_best_type(self, fake_postfix: Any, types: str, best: str) -> None:
        fake_postfix.say(m=types.replace(" ", "\n"))
        assert self.defaults() == {"map": f"{best}:/var/lib/x/relay"}

    def test_type_without_its_python_package(self, fake_postfix: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        fake_postfix.say(m="lmdb\ncdb")
        monkeypatch.setitem(sys.modules, "lmdb", None)
        monkeypatch.delitem(sys.modules, "pop_before_smtp.maps.lmdb", raising=False)
        assert self.defaults() == {"map": "cdb:/var/lib/x/relay"}

    def test_nothing_fits(self, fake_postfix: Any) -> None:
        fake_postfix.say(m="btree\nstatic")
        with pytest.raises(ConfigError, match="postfix-cdb"):
            self.defaults()

    @pytest.mark.usefixtures("no_postfix")
    def test_no_postfix(self) -> None:
        assert self.defaults() is None

    def test_broken_postfix(self, fake_postfix: Any) -> None:
        fake_postfix.script("postconf", "echo 'fatal: no main.cf' >&2; exit 1")
        with pytest.raises(ConfigError, match=r"fatal: no main\.cf"):
            self.defaults()

    def test_hanging_postfix(self, fake_postfix: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("pop_before_smtp_postfix._commands.TIMEOUT", 0.05)
        fake_postfix.script("postconf", "exec sleep 5")
        with pytest.raises(ConfigError, match="timed out"):
            self.defaults()
