"""Opening the state: modes, the lock, damage, schemas, and directories that cannot be used."""

from __future__ import annotations

import logging
import os
import random
import re
import sqlite3
import stat
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from pop_before_smtp import _statedb as db
from pop_before_smtp import errors
from pop_before_smtp._record import Checkpoint
from pop_before_smtp._state import State, read
from pop_before_smtp.api import LOGIN, LoginEvent
from pop_before_smtp.errors import StateError

NOON = 1_800_000_000.0
HERE = {"log": Checkpoint(device=1, inode=2, offset=3, fingerprint=b"4", fingerprint_size=5)}


def event(number: int) -> LoginEvent:
    address = f"198.51.{number >> 8}.{number & 255}"
    return LoginEvent(kind=LOGIN, address=address, at=NOON, received=NOON, user="ann", parser="popd", source="log")


def fill(directory: Path, logins: int = 2000) -> Path:
    state = State.open(directory)
    state.append([event(number) for number in range(logins)], HERE)
    state.own(Path("/relay"))
    state.close()
    return directory / "state.sqlite"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture(params=[0o000, 0o022, 0o077])
def umask(request: pytest.FixtureRequest) -> Iterator[None]:
    before = os.umask(request.param)
    yield
    os.umask(before)


@pytest.mark.usefixtures("umask")
def test_modes_do_not_depend_on_the_umask(tmp_path: Path) -> None:
    directory = tmp_path / "new" / "state"
    state = State.open(directory)
    state.append([event(1)], {})
    state.own(Path("/relay"))
    found = {path.name: oct(mode(path)) for path in directory.iterdir()}
    state.close()
    assert found == dict.fromkeys(["lock", "maps", "state.sqlite", "state.sqlite-shm", "state.sqlite-wal"], oct(0o640))
    assert oct(mode(directory)) == oct(0o750)


def test_the_operators_page_names_every_file(tmp_path: Path) -> None:
    fill(tmp_path).write_text("damaged" * 1000)
    state = State.open(tmp_path)
    state.append([event(1)], {})
    state.publish({})
    found = {path.name for path in tmp_path.iterdir()}
    state.close()
    page = Path(__file__).parents[2] / "docs/state.md"
    rows = [line.split("|")[1] for line in page.read_text().splitlines() if line.startswith("| `")]
    assert {name for row in rows for name in re.findall("`(.*?)`", row)} == found


def test_a_clean_end_leaves_one_file(tmp_path: Path) -> None:
    fill(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lock", "maps", "state.sqlite"]


def test_a_database_that_all_may_read_is_closed_to_them(tmp_path: Path) -> None:
    fill(tmp_path).chmod(0o666)
    State.open(tmp_path).close()
    assert oct(mode(tmp_path / "state.sqlite")) == oct(0o640)


def test_a_database_of_the_first_schema_keeps_what_it_holds(tmp_path: Path) -> None:
    path = fill(tmp_path)
    (first, *_) = db._SCHEMA
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(
            f"DROP TABLE login; DROP TABLE source; DROP TABLE session; DROP TABLE revocation; {first}"  # noqa: S608 - ours
            "INSERT INTO login VALUES (1, '198.51.0.7', 'ann', NULL, 1, 'log', 'popd', 9, 1.0, 2.0);"
            "INSERT INTO source VALUES ('log', '18446744073709551615', '2', 3, x'34ff', 2); PRAGMA user_version = 1"
        )
    state = State.open(tmp_path)
    known = Checkpoint(device=2**64 - 1, inode=2, offset=3, fingerprint=b"4\xff", fingerprint_size=2)
    assert (state.positions(), [login.address for login in state.logins(0)]) == ({"log": known}, ["198.51.0.7"])
    state.append([], {"journal": "s=1;i=2", "log": known})
    assert state.positions() == {"journal": "s=1;i=2", "log": known}
    state.close()


# -- one daemon


def test_a_second_daemon_is_told_who_has_the_state(tmp_path: Path) -> None:
    state = State.open(tmp_path)
    with pytest.raises(StateError, match=rf"^another pop-before-smtp \(pid {os.getpid()}\) uses {tmp_path}; stop it"):
        State.open(tmp_path, patience=0)
    assert State.locked(tmp_path)
    state.close()
    assert not State.locked(tmp_path)
    State.open(tmp_path, patience=0).close()


def test_a_failed_start_leaves_no_lock(tmp_path: Path) -> None:
    connection = sqlite3.connect(fill(tmp_path))
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(StateError):
        State.open(tmp_path)
    assert not State.locked(tmp_path)


def test_a_directory_without_a_lock_is_not_locked(tmp_path: Path) -> None:
    assert not State.locked(tmp_path)


# -- schemas


def test_the_state_of_a_newer_daemon_is_left_alone(tmp_path: Path) -> None:
    path = fill(tmp_path)
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(StateError, match=r"state.sqlite: written by a newer pop-before-smtp \(schema 99, "):
        State.open(tmp_path)
    with pytest.raises(StateError, match="newer"), read(tmp_path):
        pass
    assert path.read_bytes() == before


def test_the_state_of_an_older_daemon_is_brought_up_to_date(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path)
    step = "ALTER TABLE revocation ADD COLUMN reason; UPDATE login SET user = 'migrated';"
    monkeypatch.setattr(db, "_SCHEMA", (*db._SCHEMA, step))
    with read(tmp_path) as before:
        assert {login.user for login in before.logins(0)} == {"migrated"}, "of a copy"
    state = State.open(tmp_path)
    assert {login.user for login in state.logins(0)} == {"migrated"}
    state.close()


# -- damage


def overwrite(path: Path, offset: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


def chance(seed: int) -> random.Random:
    return random.Random(seed)  # noqa: S311 - the same noise in every run


def sql(statement: str) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        connection = sqlite3.connect(path, isolation_level=None)
        connection.execute(statement)
        connection.close()

    return damage


def cut(size: int) -> Callable[[Path], None]:
    return lambda path: os.truncate(path, size)


DAMAGE: dict[str, Callable[[Path], object]] = {
    "text": lambda path: path.write_text("no database at all, but long enough to be one\n" * 100),
    "header": lambda path: overwrite(path, 0, b"\0" * 100),
    "zeros in the middle": lambda path: overwrite(path, 8192, b"\0" * 8192),
    "noise in the middle": lambda path: overwrite(path, 4096, chance(1).randbytes(20_000)),
    "first page only": cut(4096),
    "half": lambda path: os.truncate(path, path.stat().st_size // 2 // 4096 * 4096),
    "within a page": cut(10_000),
    "no table": sql("DROP TABLE login"),
    "no positions": sql("DROP TABLE source"),
    "address of no kind": sql("UPDATE login SET address = 'relay me' WHERE id = 7"),
    "time of no kind": sql("UPDATE login SET last = 'soon' WHERE id = 7"),
    "no UTF-8": sql("UPDATE login SET address = CAST(x'ff31' AS TEXT) WHERE id = 7"),
    "schema of no kind": sql("PRAGMA user_version = -1"),
    "position of no kind": sql("UPDATE source SET position = '{'"),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_damage_is_set_aside_with_an_alarm(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: Callable[[Path], object]
) -> None:
    path = fill(tmp_path)
    damage(path)
    damaged = path.read_bytes()[100:]  # the header may say WAL by then
    state = State.open(tmp_path)
    assert (list(state.logins(0)), state.positions()) == ([], {})
    assert state.owned() == {Path("/relay")}, "our map is still ours"
    assert (tmp_path / "state.sqlite.corrupt").read_bytes()[100:] == damaged
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert "damaged" in record.message
    state.append([event(1)], HERE)
    state.close()
    state = State.open(tmp_path)
    assert (len(list(state.logins(0))), state.positions()) == (1, HERE)
    state.close()


@pytest.mark.parametrize("seed", range(25))
def test_noise_anywhere_never_stops_a_start(tmp_path: Path, seed: int) -> None:
    path = fill(tmp_path, logins=200)
    noise = chance(seed)
    for _ in range(3):
        overwrite(path, noise.randrange(path.stat().st_size), noise.randbytes(noise.choice([1, 16, 300])))
    state = State.open(tmp_path)
    assert len(list(state.logins(0))) <= 200
    state.append([event(1)], HERE)
    state.compact(NOON)
    state.close()


def test_only_one_damaged_database_is_kept(tmp_path: Path) -> None:
    for text in ("first", "second"):
        fill(tmp_path).write_text(text * 1000)
        State.open(tmp_path).close()
    assert (tmp_path / "state.sqlite.corrupt").read_text() == "second" * 1000
    assert len(list(tmp_path.glob("*corrupt*"))) == 1


def test_an_empty_file_is_a_new_state(tmp_path: Path) -> None:
    (tmp_path / "state.sqlite").touch()
    state = State.open(tmp_path)
    assert list(state.logins(0)) == []
    state.close()
    assert not list(tmp_path.glob("*corrupt*"))


def test_damage_at_run_time_begins_anew_and_stores_no_position_until_the_next_start(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = fill(tmp_path)
    state = State.open(tmp_path)
    state.append([event(1)], {})
    state._rows("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    overwrite(path, 4096, b"\xff" * (path.stat().st_size - 4096))
    state._rows("PRAGMA cache_size = 0")
    state.append([event(2)], HERE)
    state.append([event(3)], HERE)
    assert "damaged" in caplog.text
    assert len(list(state.logins(0))) == 2
    state.close()
    state = State.open(tmp_path)
    assert (len(list(state.logins(0))), state.positions()) == (2, {})
    state.append([], HERE)
    assert state.positions() == HERE
    state.close()


def test_a_damaged_list_of_maps_owns_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    fill(tmp_path)
    for text in ("{", "[1]", "7", '{"/relay"'):
        (tmp_path / "maps").write_text(text)
        with read(tmp_path) as state:
            assert state.owned() == set()
        assert "adopt = true" in caplog.text


# -- directories that cannot be used


def test_a_directory_where_others_can_write_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o770)
    with pytest.raises(StateError, match="others than its owner can write there; run chmod go-w"):
        State.open(tmp_path)


def test_a_file_is_no_directory(tmp_path: Path) -> None:
    file = tmp_path / "state"
    file.touch()
    for directory in (file, file / "below"):
        with pytest.raises(StateError, match="Not a directory; name a directory"):
            State.open(directory)


def test_a_state_that_is_a_directory_or_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "state.sqlite").mkdir()
    with pytest.raises(StateError, match="Is a directory"):
        State.open(tmp_path)
    (tmp_path / "state.sqlite").rmdir()
    (tmp_path / "state.sqlite").symlink_to("/etc/passwd")
    with pytest.raises(StateError, match="symbolic link"):
        State.open(tmp_path)


def test_errors_are_for_people(tmp_path: Path) -> None:
    assert StateError.exit_code != 0
    assert issubclass(StateError, errors.PopBeforeSmtpError)
    with pytest.raises(StateError) as caught:
        State.open(tmp_path / ("x" * 300))
    assert "\n" not in str(caught.value)
