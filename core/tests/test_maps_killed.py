"""Writers killed at random moments: whatever they were doing, the map is whole and the stable keys are in it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

KILLS = 30

FIRE = """
import itertools, os, random, signal, sys, time
from importlib import import_module
from pathlib import Path
from pop_before_smtp.api import Changes

module, name, path, kills = sys.argv[1], sys.argv[2], Path(sys.argv[3]), int(sys.argv[4])
module = import_module("pop_before_smtp.maps." + module)
stable = frozenset(f"192.0.2.{n}" for n in range(200))
churn = [frozenset(f"10.{part}.0.{n}" for n in range(200)) for part in range(4)]

def write(started):
    target = getattr(module, name)(path, value="OK", nul=True)
    before = frozenset()
    for part in itertools.cycle(churn):
        keys = stable | part
        target.write(Changes(added=keys - before, removed=before - keys, current=keys))
        if not before:
            os.write(started, b".")
        before = keys

def check(kill):
    keys = {key.rstrip(b"\\0").decode() for key in module.read(path)}
    assert keys - stable in churn, f"kill {kill}: {len(keys)} keys, of the stable ones {len(keys & stable)}"

for kill in range(kills):
    ended, started = os.pipe()
    writer = os.fork()
    if not writer:
        write(started)
    if kill % 3:  # else it is killed while it starts
        os.read(ended, 1)
    time.sleep(random.uniform(0, 0.02))
    os.kill(writer, signal.SIGKILL)
    os.waitpid(writer, 0)
    os.close(ended)
    os.close(started)
    if kill:
        check(kill)
left = {file.name for file in path.parent.iterdir()}
assert left <= {path.name, f".{path.name}.new~", f".{path.name}.empty~"}, left
"""


@pytest.mark.parametrize(
    ("module", "name"), [("lmdb", "LmdbMap"), ("cdb", "CdbMap"), ("bdb", "HashMap"), ("bdb", "BtreeMap")]
)
def test_the_map_is_whole_after_every_kill(tmp_path: Path, module: str, name: str) -> None:
    argv = [sys.executable, "-c", FIRE, module, name, str(tmp_path / "relay"), str(KILLS)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
