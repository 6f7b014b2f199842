"""The contract once more, read with this machine's own postmap; without Postfix there is nothing to collect."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from pathlib import Path

from pop_before_smtp.api import Changes, Map
from pop_before_smtp.testing import WriterTests
from pop_before_smtp_postfix import Settings, _commands, pop_before_smtp_writers

(WRITER,) = pop_before_smtp_writers()
PATH = os.pathsep.join((os.environ.get("PATH", os.defpath), *_commands.SBIN))
OFFERED = _commands.ask("postconf", "-m").split() if shutil.which("postconf", path=PATH) else []
POSTMAP = shutil.which("postmap", path=PATH) or ""


class RealTests(WriterTests):
    writer = WRITER
    kind = ""

    def settings(self, directory: Path) -> Settings:
        return Settings(map=f"{self.kind}:{directory}/relay")

    def read(self, target: Map) -> set[str]:
        """Ask Postfix for all entries, or where it cannot list them (cdb) for each that may be there."""
        table = f"{self.kind}:{target.path.with_suffix('')}"
        if self.kind != "cdb":
            return {line.partition("\t")[0] for line in self.run("-s", table).splitlines()}
        names = {f"198.51.{high}.{low}" for high in range(8) for low in range(256)}
        names |= {"192.0.2.10", "2001:db8:9::10", "2001:db8::1", "192.0.2", "2001"}
        return {line.partition("\t")[0] for line in self.run("-q", "-", table, asked="\n".join(names)).splitlines()}

    @staticmethod
    def run(*arguments: str, asked: str = "") -> str:
        done = subprocess.run((POSTMAP, *arguments), input=asked, capture_output=True, text=True, check=False)
        assert not done.stderr, done.stderr
        return done.stdout

    def test_readers_never_see_a_wrong_answer(self, target: Map) -> None:
        """Two processes ask without a pause while the map changes 300 times: a listed client stays listed."""
        stable = frozenset(f"192.0.2.{n}" for n in range(50))
        churn = [frozenset(f"10.{part}.0.{n}" for n in range(50)) for part in range(3)]
        asked = "\n".join([*sorted(stable), *(f"198.51.100.{n}" for n in range(50))] * 20) + "\n"
        want = "".join(f"{key}\tOK\n" for key in sorted(stable)) * 20
        target.write(Changes(added=stable, removed=frozenset(), current=stable))
        wrong: list[str] = []
        done = threading.Event()

        def ask() -> None:
            while not done.is_set():
                said = self.run("-q", "-", f"{self.kind}:{target.path.with_suffix('')}", asked=asked)
                if said != want:
                    wrong.append(said)

        readers = [threading.Thread(target=ask) for _ in range(2)]
        for reader in readers:
            reader.start()
        before = stable
        for turn in range(300):
            keys = stable | churn[turn % 3]
            target.write(Changes(added=keys - before, removed=before - keys, current=keys))
            before = keys
        done.set()
        for reader in readers:
            reader.join()
        assert not wrong


if "lmdb" in OFFERED:

    class TestRealLmdb(RealTests):
        kind = "lmdb"

        def test_readers_never_see_half(self, target: Map) -> None:
            """Left out: ``postmap -s`` locks the file for each entry anew, so its list is of no one moment."""


if "cdb" in OFFERED:

    class TestRealCdb(RealTests):
        kind = "cdb"


if "hash" in OFFERED:

    class TestRealHash(RealTests):
        kind = "hash"


if "btree" in OFFERED:

    class TestRealBtree(RealTests):
        kind = "btree"


if OFFERED:

    def test_real_defaults_can_be_opened(tmp_path: Path) -> None:
        assert WRITER.defaults
        chosen = WRITER.defaults(tmp_path)
        assert chosen
        WRITER.open(Settings(**chosen))  # type: ignore[arg-type]  # the core checks types
