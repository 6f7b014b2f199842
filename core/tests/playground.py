"""A log, a map, a state and a configuration below one folder, and the command, as somebody at a terminal has them."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from pop_before_smtp import _cli

DEADLINE = 15.0


class Site:
    """A log, a map, a state and a configuration file below one folder, and the command."""

    def __init__(self, folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self.log = folder / "mail.log"
        self.map = folder / "relay"
        self.file = folder / "pop-before-smtp.toml"
        self._capture = capfd
        self.log.touch()
        self.configure()

    def configure(self, top: str = "", policy: str = "", writer: str = "", path: str | None = None) -> None:
        self.file.write_text(f"""
            plugins = ["popd", "textfile"]
            state_dir = "{self.folder}/state"
            {top}
            [[source]]
            path = "{path or self.log}"
            [policy]
            {policy}
            [[writer]]
            use = "textfile"
            map = "{self.map}"
            {writer}
        """)

    def line(self, address: str, user: str = "ann", ago: float = 0.0, program: str = "popd") -> str:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime(time.time() - ago))
        return f"{stamp} mail {program}: login {user} from {address}"

    def login(self, address: str, user: str = "ann", ago: float = 0.0) -> None:
        with self.log.open("a") as log:
            log.write(self.line(address, user, ago) + "\n")

    def __call__(self, *args: str) -> tuple[int, str, str]:
        code = _cli.run(list(args))
        out, err = self._capture.readouterr()
        return code, out, err

    def keys(self) -> set[str]:
        return set(self.map.read_text().split()) if self.map.exists() else set()

    def start(self, *args: str) -> "subprocess.Popen[str]":
        environment = {**os.environ, "PYTHONPATH": str(self.folder / "site")}
        return subprocess.Popen(
            [sys.executable, "-m", "pop_before_smtp", *args],
            env=environment,
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def wait_for_line(self, process: "subprocess.Popen[str]", text: str) -> None:
        assert process.stderr
        for line in process.stderr:
            if text in line:
                return
        raise AssertionError(f"{text!r} was not logged")


def until(condition: Callable[[], bool], seconds: float = DEADLINE) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)
