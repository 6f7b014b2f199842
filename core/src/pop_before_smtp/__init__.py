"""POP-before-SMTP: who has just fetched mail may send mail, for half an hour.

For plugin authors: :mod:`~pop_before_smtp.api` is the contract, :mod:`~pop_before_smtp.errors` what may be raised,
:mod:`~pop_before_smtp.maps` the file formats for writers and :mod:`~pop_before_smtp.testing` the test kit. Every other
module has an underscore and may change at any time.
"""

from .api import (
    CONNECT,
    FAILURE,
    LOGIN,
    LOGOUT,
    PART,
    Changes,
    Kind,
    LogHeader,
    LoginEvent,
    LogParser,
    LogPattern,
    Lookup,
    Map,
    Record,
    Writer,
    hookimpl,
)
from .errors import ConfigError, MapError, PopBeforeSmtpError

__version__ = "2.0.0"

__all__ = [
    "CONNECT",
    "FAILURE",
    "LOGIN",
    "LOGOUT",
    "PART",
    "Changes",
    "ConfigError",
    "Kind",
    "LogHeader",
    "LogParser",
    "LogPattern",
    "LoginEvent",
    "Lookup",
    "Map",
    "MapError",
    "PopBeforeSmtpError",
    "Record",
    "Writer",
    "__version__",
    "hookimpl",
]
