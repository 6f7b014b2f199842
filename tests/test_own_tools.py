"""Plugins' own tests that need a mail server's tools, run where these are installed."""

from __future__ import annotations

import re
import sys

import pytest
from lab import CHECKOUT, Lab

pytestmark = pytest.mark.system


def test_postfix_maps_with_the_real_postmap(dovecot_lab: Lab) -> None:
    argv = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(CHECKOUT)]
    done = dovecot_lab.run(*argv, CHECKOUT / "plugins/postfix/tests/test_postfix_real.py", check=False)
    assert done.returncode == 0, done.stdout
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed, done.stdout
    assert int(passed[1]) > 100  # four table types
    assert "skipped" not in done.stdout
