"""Mail clients with outside addresses: logins by IMAP and POP3, and the question whether the server relays."""

from __future__ import annotations

import contextlib
import imaplib
import poplib
import smtplib
import socket
import ssl
from collections.abc import Callable, Iterator

from lab import Lab

FOREIGN = "someone@foreign.example"
LOCAL = "postmaster@mx.test.example"
PERMITTED = 250


def _tls() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _dial(lab: Lab, client: str, port: int, *, implicit: bool) -> socket.socket:
    connection = lab.connect(client, port)
    return _tls().wrap_socket(connection) if implicit else connection


class _Imap(imaplib.IMAP4):
    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        super().__init__("mx.test.example")

    def _create_socket(self, timeout: float | None) -> socket.socket:
        assert timeout is None
        return self._connection


class _Pop(poplib.POP3):
    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        super().__init__("mx.test.example")

    def _create_socket(self, timeout: float | None) -> socket.socket:
        del timeout
        return self._connection


def imap(lab: Lab, client: str, user: str = "ann", password: str = "pw", tls: str = "") -> bool:  # noqa: S107
    """Log in by IMAP and out again; say whether the login was accepted. ``tls``: "", "starttls" or "implicit"."""
    connection = _Imap(_dial(lab, client, 993 if tls == "implicit" else 143, implicit=tls == "implicit"))
    if tls == "starttls":
        connection.starttls(_tls())
    return _tried(connection, lambda: connection.login(user, password))


def imap_plain(lab: Lab, client: str, user: str, password: str) -> bool:
    """Do the same by AUTHENTICATE PLAIN, in which a user name can hold any byte but NUL."""
    connection = _Imap(_dial(lab, client, 143, implicit=False))
    return _tried(connection, lambda: connection.authenticate("PLAIN", lambda _: f"\0{user}\0{password}".encode()))


def _tried(connection: imaplib.IMAP4, login: Callable[[], object]) -> bool:
    try:
        login()
    except imaplib.IMAP4.error:
        return False
    finally:
        with contextlib.suppress(imaplib.IMAP4.error, OSError):
            connection.logout()
    return True


def pop(lab: Lab, client: str, user: str = "ann", password: str = "pw", tls: str = "") -> bool:  # noqa: S107
    """Log in by POP3 and out again; say whether the login was accepted. ``tls`` as in :func:`imap`."""
    connection = _Pop(_dial(lab, client, 995 if tls == "implicit" else 110, implicit=tls == "implicit"))
    if tls == "starttls":
        connection.stls(_tls())
    try:
        connection.user(user)
        connection.pass_(password)
    except poplib.error_proto:
        return False
    finally:
        with contextlib.suppress(poplib.error_proto, OSError):
            connection.quit()
    return True


class _Smtp(smtplib.SMTP):
    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        super().__init__("mx.test.example", local_hostname="client.example")

    def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:
        del host, port, timeout
        return self._connection


@contextlib.contextmanager
def smtp(lab: Lab, client: str, port: int = 25) -> Iterator[smtplib.SMTP]:
    """Open an SMTP session."""
    with _Smtp(lab.connect(client, port)) as session:
        session.ehlo()
        yield session


def rcpt(session: smtplib.SMTP, recipient: str = FOREIGN) -> int:
    """Ask in an open session whether mail for a recipient is taken; return the reply code."""
    session.mail("me@client.example")
    code, _ = session.rcpt(recipient)
    session.rset()
    return code


def asked(lab: Lab, client: str, port: int = 25, recipient: str = FOREIGN) -> int:
    """Ask in a session of its own whether mail for a recipient is taken; return the reply code."""
    with smtp(lab, client, port) as session:
        return rcpt(session, recipient)
