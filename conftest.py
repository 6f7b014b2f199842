"""Where continuous integration runs, a test that skips has failed, and random tests try the same examples each time."""

from __future__ import annotations

import os
from collections.abc import Generator
from typing import TypeVar

import pytest
from hypothesis import settings

R = TypeVar("R", pytest.TestReport, pytest.CollectReport)
CI = os.environ.get("CI") == "true"

# A change is judged by what it changes, not by luck; elsewhere each run looks into other corners.
settings.register_profile("repeatable", derandomize=True, database=None)
if CI:
    settings.load_profile("repeatable")


def no_skip(report: R) -> R:
    """Turn a skip into a failure; an expected failure stays one."""
    if CI and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped although CI=true: {report.longrepr}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Look at the result of each test."""
    return no_skip((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Look at the result of each module's import."""
    return no_skip((yield))
