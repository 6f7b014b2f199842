"""``list`` and ``why`` ask with read access only, and never disturb the daemon."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pop_before_smtp import _statedb as db
from pop_before_smtp import _statereader
from pop_before_smtp._record import Checkpoint
from pop_before_smtp._state import State, read
from pop_before_smtp.api import LOGIN, LoginEvent
from pop_before_smtp.errors import StateError

NOON = 1_800_000_000.0
HERE = {"log": Checkpoint(device=1, inode=2, offset=3, fingerprint=b"4", fingerprint_size=5)}
MEMBER, GROUP, STRANGER = 61_001, 61_002, 61_003

needs_root = pytest.mark.skipif(
    os.geteuid() != 0 and os.environ.get("CI") != "true", reason="needs root to become somebody else"
)


def event(number: int) -> LoginEvent:
    address = f"198.51.{number >> 8}.{number & 255}"
    return LoginEvent(kind=LOGIN, address=address, at=NOON, received=NOON, user="ann", parser="popd", source="log")


def asked(directory: Path) -> dict[str, Any]:
    """Ask all there is to ask."""
    with read(directory) as state:
        return {
            "logins": sorted(login.address for login in state.logins(0)),
            "offsets": [checkpoint.offset for checkpoint in state.positions().values()],
            "connects": state.connects(),
            "revocations": state.revocations(),
            "owned": sorted(map(str, state.owned())),
        }


ANSWER = {
    "logins": ["198.51.0.1", "198.51.0.2"],
    "offsets": [3],
    "connects": [],
    "revocations": {"ann": NOON},
    "owned": ["/relay"],
}


def cannot_open(_path: Path) -> sqlite3.Connection:
    raise sqlite3.OperationalError("unable to open database file")


def fill(state: State) -> None:
    state.append([event(1)], {})
    state.append([event(2)], HERE, revocations={"ann": NOON})
    state.own(Path("/relay"))


@pytest.fixture
def shared() -> Iterator[Path]:
    """Return a state directory that a group may read, below a folder that all may enter."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        directory = Path(folder) / "state"
        directory.mkdir(mode=0o750)
        if os.geteuid() == 0:
            os.chown(directory, 0, GROUP)
        yield directory


def killed(directory: Path) -> None:
    """Fill the state in a process that is killed then."""
    child = os.fork()
    if child == 0:
        try:
            fill(State.open(directory))
        finally:
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    assert (directory / "state.sqlite-wal").exists()


def killed_and_swept(directory: Path) -> None:
    killed(directory)
    (directory / "state.sqlite-shm").unlink()


def killed_while_rolling_back(directory: Path) -> None:
    """Leave a hot journal, as a kill does where the write-ahead log could not be turned on."""
    killed(directory)
    child = os.fork()
    if child == 0:
        try:
            connection = sqlite3.connect(directory / "state.sqlite", isolation_level=None)
            connection.execute("PRAGMA journal_mode = DELETE")
            connection.execute("PRAGMA cache_size = 1")
            connection.execute("BEGIN")
            for number in range(5000):
                connection.execute("INSERT INTO revocation VALUES (?, 0)", (f"{number}" * 20,))
        finally:
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    assert (directory / "state.sqlite-journal").exists()


def stopped(directory: Path) -> None:
    state = State.open(directory)
    fill(state)
    state.close()


def stopped_uncleanly(directory: Path) -> None:
    """Leave a file that wants a write-ahead log, and none."""
    killed(directory)
    connection = sqlite3.connect(directory / "state.sqlite")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    connection.close()
    assert not (directory / "state.sqlite-wal").exists()


ENDS: list[Callable[[Path], None]] = [stopped, killed, killed_and_swept, killed_while_rolling_back, stopped_uncleanly]


def as_user(user: int, groups: list[int], task: Callable[[], Any]) -> Any:
    """Return what a task returns when another user runs it."""
    readable, writable = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups(groups)
            os.setgid(user)
            os.setuid(user)
            try:
                answer = {"answer": task()}
            except StateError as error:
                answer = {"error": str(error)}
            os.write(writable, json.dumps(answer).encode())
        finally:
            os._exit(0)
    os.close(writable)
    with os.fdopen(readable, "rb") as pipe:
        answer = json.loads(pipe.read())
    os.waitpid(child, 0)
    return answer


def listing(directory: Path) -> dict[str, int]:
    return {path.name: path.stat().st_size for path in directory.iterdir()}


@needs_root
@pytest.mark.parametrize("end", ENDS)
def test_a_member_of_the_group_reads_when_the_daemon_has_ended(shared: Path, end: Callable[[Path], None]) -> None:
    end(shared)
    before = listing(shared)
    assert as_user(MEMBER, [GROUP], lambda: asked(shared)) == {"answer": ANSWER}
    assert listing(shared) == before
    state = State.open(shared, patience=0)
    assert len(list(state.logins(0))) == 2
    state.close()


@needs_root
def test_a_member_of_the_group_reads_beside_the_daemon(shared: Path) -> None:
    state = State.open(shared)
    fill(state)
    assert as_user(MEMBER, [GROUP], lambda: asked(shared)) == {"answer": ANSWER}
    assert as_user(MEMBER, [GROUP], lambda: State.locked(shared)) == {"answer": True}
    state.append([event(3)], {})
    assert len(as_user(MEMBER, [GROUP], lambda: asked(shared))["answer"]["logins"]) == 3
    state.close()


@needs_root
@pytest.mark.parametrize("end", ENDS)
def test_a_stranger_is_told_to_join_the_group(shared: Path, end: Callable[[Path], None]) -> None:
    end(shared)
    answer = as_user(STRANGER, [], lambda: asked(shared))
    assert answer == {"error": f"{shared}/state.sqlite: may not be read; be root or in the group of the file"}
    shared.chmod(0o755)
    assert as_user(STRANGER, [], lambda: asked(shared)) == answer


@needs_root
def test_what_root_makes_belongs_to_the_owner_of_the_directory(shared: Path) -> None:
    os.chown(shared, MEMBER, GROUP)
    killed(shared)
    state = State.open(shared)
    fill(state)
    found = {path.name: (path.stat().st_uid, path.stat().st_gid) for path in shared.iterdir()}
    state.close()
    names = ["lock", "maps", "state.sqlite", "state.sqlite-shm", "state.sqlite-wal"]
    assert found == dict.fromkeys(names, (MEMBER, GROUP))


@needs_root
def test_a_daemon_that_may_not_write_its_state_says_so(shared: Path) -> None:
    stopped(shared)

    def start() -> None:
        State.open(shared).close()

    advice = "Permission denied; give it to the user of the daemon"
    assert as_user(MEMBER, [GROUP], start) == {"error": f"{shared}/lock: {advice}"}
    (shared / "lock").unlink()
    assert as_user(MEMBER, [GROUP], start) == {"error": f"{shared}/lock: {advice}"}


@pytest.mark.parametrize("end", ENDS)
def test_its_owner_reads_too(shared: Path, end: Callable[[Path], None]) -> None:
    end(shared)
    assert asked(shared) == ANSWER


def test_where_nothing_has_happened_nothing_is_read(tmp_path: Path) -> None:
    nothing = {"logins": [], "offsets": [], "connects": [], "revocations": {}, "owned": []}
    assert asked(tmp_path) == nothing
    assert asked(tmp_path / "missing") == nothing
    (tmp_path / "state.sqlite").touch()
    assert asked(tmp_path) == nothing


def test_a_damaged_state_is_an_error_of_one_line(tmp_path: Path) -> None:
    stopped(tmp_path)
    (tmp_path / "state.sqlite").write_text("damaged" * 1000)
    with pytest.raises(StateError, match=r"state\.sqlite: file is not a database; if it is damaged, the daemon's next"):
        asked(tmp_path)


def test_no_copy_is_made_beside_a_daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_statereader, "_TRIES", 2)
    monkeypatch.setattr(_statereader, "_PAUSE", 0.0)
    monkeypatch.setattr(_statereader, "_direct", cannot_open)
    state = State.open(tmp_path)
    with pytest.raises(StateError, match="cannot be opened beside its daemon; try again"):
        asked(tmp_path)
    state.close()


def test_readers_see_whole_batches_while_the_daemon_stores(tmp_path: Path) -> None:
    state = State.open(tmp_path)
    command = """
import sys
from pathlib import Path
from pop_before_smtp._state import read
counts = []
while not counts or counts[-1] < 3000:
    with read(Path(sys.argv[1])) as state:
        counts.append(len(list(state.logins(0))))
print(*counts)
"""
    with subprocess.Popen([sys.executable, "-c", command, str(tmp_path)], stdout=subprocess.PIPE) as reader:
        for start in range(0, 3000, 100):
            state.append([event(number) for number in range(start, start + 100)], {})
            state.compact(0)
        assert reader.stdout is not None
        counts = [int(word) for word in reader.stdout.read().split()]
    state.close()
    assert counts == sorted(counts)
    assert all(count % 100 == 0 for count in counts)


def test_a_list_that_dawdles_keeps_no_daemon_from_starting_or_ending(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(db, "_BUSY_SECONDS", 0.05)
    stopped(tmp_path)
    with read(tmp_path) as reader:
        logins = reader.logins(0)
        next(logins)
        state = State.open(tmp_path, patience=0)
        with pytest.raises(StateError, match="database is locked"):
            state.append([event(3)], {})
        state.close()
        state = State.open(tmp_path, patience=0)
        logins.close()
        state.append([event(3)], {})
        state.compact(0)
        next(reader.logins(0))
        state.append([event(4)], {})
        state.close()
    state = State.open(tmp_path)
    assert len(list(state.logins(0))) == 4
    state.close()


def test_the_private_copy_is_gone_afterwards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copies = tmp_path / "copies"
    copies.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(copies))
    monkeypatch.setattr(_statereader, "_direct", cannot_open)
    killed(tmp_path)
    with read(tmp_path) as state:
        assert len(list(copies.rglob("state.sqlite"))) == 1
        assert len(list(state.logins(0))) == 2
    assert list(copies.iterdir()) == []
