"""The errors that this package raises on purpose: one line each for people, with an exit code."""

from __future__ import annotations


class PopBeforeSmtpError(Exception):
    """The base of all errors here; never raised itself. Its text is one line: what, where, what to do."""

    exit_code = 1


class ConfigError(PopBeforeSmtpError):
    """The configuration, a plugin it names, or the machine does not fit; nothing has been changed.

    Args:
        problems: one line per problem, each with the path of the key it is about (``writer[0].map: ...``).
    """

    exit_code = 78

    def __init__(self, *problems: str) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


class PluginError(ConfigError):
    """A plugin is missing, broken or yields what the contract does not allow."""


class MapError(PopBeforeSmtpError):
    """A map could not be written; the old map is whole, and the next write mends it."""


class StateError(PopBeforeSmtpError):
    """The state could not be opened, read or written."""


class SourceError(PopBeforeSmtpError):
    """A log could not be opened or read."""
