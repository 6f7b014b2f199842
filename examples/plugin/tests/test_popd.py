"""The contract against popd's lines."""

from pop_before_smtp import LOGIN, LOGOUT
from pop_before_smtp.testing import ParserTests, Sample
from pop_before_smtp_popd import PARSER


class TestPopd(ParserTests):
    parser = PARSER
    samples = (
        Sample(
            program=b"popd",
            pid=b"311",
            message=b"login user=ann from 203.0.113.7 tls session=5f3a",
            kind=LOGIN,
            address="203.0.113.7",
            user="ann",
            service="pop3",
            tls=True,
            session="5f3a",
        ),
        Sample(
            program=b"popd",
            pid=b"312",
            message=b"login user=bob from 2001:db8:c::7 session=5f3b",
            kind=LOGIN,
            address="2001:db8:c::7",
            user="bob",
            service="pop3",
            tls=False,
            session="5f3b",
        ),
        Sample(program=b"popd", pid=b"311", message=b"logout session=5f3a", kind=LOGOUT, session="5f3a"),
        Sample(
            program=b"popd",
            pid=b"313",
            message=b"failed login user=ann from 203.0.113.9",
            words=(b"ann",),
        ),
    )
