"""Real syslog daemons and a newline that a client sends before its login: who lets it begin a line of the log?

The program is one that hands on what its client sent, as UW imapd does with the user name of a failed login.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator

import pytest
from daemon import Daemon
from lab import Lab, eventually
from pop_before_smtp.maps import cdb

pytestmark = pytest.mark.system

FORGED = "198.51.100.66"
LOG = "/var/log/mail.log"
SOCKET = "/run/pop-before-smtp/log"
CONFIG = """
plugins = ["uw_imap", "postfix"]
state_dir = "/var/lib/pop-before-smtp/{name}-state"
[[source]]
{source}
[[writer]]
use = "postfix"
map = "cdb:/var/lib/pop-before-smtp/{name}"
netblocks = []
"""
SOURCES = {
    "auto": f'path = "{LOG}"',
    "believed": f'path = "{LOG}"\nescaped = true',
    "listen": f'listen = "{SOCKET}"',
}
IMAPD = """
import sys, syslog, time
syslog.openlog("imapd", syslog.LOG_PID, syslog.LOG_MAIL)
now = time.strftime("%b %e %H:%M:%S")
forged, real = sys.argv[1:]
line = f"{now} mx imapd[1]: Login user=a host=[{forged}]"
syslog.syslog(f"Login failed user=x\\n{line}\\n{now} mx imapd[1]: auth=x host=[203.0.113.99]")
syslog.syslog(f"Login user=ann host=[{real}]")
"""
POSITION = """
import pathlib, sys
from pop_before_smtp._statereader import read
with read(pathlib.Path(sys.argv[1])) as state:
    print(getattr(state.positions().get(sys.argv[2]), "offset", None))
"""
SYSLOG_NG = f"""
destination d_pbs {{ unix-dgram("{SOCKET}" time-reopen(1)); }};
log {{ source(s_src); filter(f_mail); destination(d_pbs); }};
"""
RSYSLOG = f"""
module(load="omuxsock")
$OMUxSockSocket {SOCKET}
mail.* :omuxsock:
"""


class Site:
    """A lab with a syslog daemon, and a daemon of ours for each kind of source."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        lab.sh("mkdir -p -m 755 /var/lib/pop-before-smtp /run/pop-before-smtp")
        lab.write("/tmp/imapd.py", IMAPD)
        lab.sh(f"install -m 640 /dev/null {LOG}")
        self.daemons = {name: Daemon(lab, "uw_imap", name=name, kinds=("cdb",)) for name in SOURCES}
        for name, source in SOURCES.items():
            lab.write(self.daemons[name].config, CONFIG.format(name=name, source=source))

    def __enter__(self) -> None:
        for daemon in self.daemons.values():
            daemon.start()

    def __exit__(self, *_: object) -> None:
        for daemon in self.daemons.values():
            if daemon.running:
                daemon.stop()

    def log_in(self, forged: str, real: str) -> None:
        """Let somebody send a newline and somebody else log in."""
        self.lab.run(sys.executable, "/tmp/imapd.py", forged, real)

    def granted(self, name: str) -> set[str]:
        return {key.decode() for key in cdb.read(self.lab.path(f"{self.daemons[name].maps['cdb']}.cdb"))}

    def has_read(self, name: str) -> bool:
        """Say whether one of the daemons has read, and remembered that it has, all that is in the file."""
        state = f"/var/lib/pop-before-smtp/{name}-state"
        offset = self.lab.run(sys.executable, "-c", POSITION, state, LOG).stdout.strip()
        return offset == str(self.lab.path(LOG).stat().st_size)

    def grants(self, name: str, *addresses: str) -> None:
        """Wait until so much is granted by one of the daemons, and no more."""
        if name != "listen":
            eventually(lambda: self.has_read(name), within=10)
        eventually(lambda: set(addresses) <= self.granted(name), within=10)
        assert self.granted(name) == set(addresses)


@pytest.fixture(scope="module")
def syslog_ng(new_lab: type[Lab]) -> Iterator[Site]:
    """Give a site with Debian's syslog-ng, as it is but that it reads neither kernel nor journal."""
    with new_lab("syslog-ng-core") as lab:
        site = Site(lab)
        lab.sh("""sed -i 's,^ *system();,unix-dgram("/dev/log");,' /etc/syslog-ng/syslog-ng.conf""")
        lab.write("/etc/syslog-ng/conf.d/pop-before-smtp.conf", SYSLOG_NG)
        yield site


@pytest.fixture(scope="module")
def rsyslog(new_lab: type[Lab]) -> Iterator[Site]:
    """Give a site with Debian's rsyslog."""
    with new_lab("rsyslog") as lab:
        site = Site(lab)
        lab.sh("sed -i /imklog/d /etc/rsyslog.conf")
        lab.write("/etc/rsyslog.d/pop-before-smtp.conf", RSYSLOG)
        yield site


def test_syslog_ng(syslog_ng: Site) -> None:
    lab, auto, listen = syslog_ng.lab, syslog_ng.daemons["auto"], syslog_ng.daemons["listen"]
    lab.sh("syslog-ng --no-caps; while ! [ -S /dev/log ]; do sleep 0.05; done")
    with syslog_ng:
        syslog_ng.log_in(FORGED, "203.0.113.1")
        syslog_ng.grants("listen", "203.0.113.1")
        syslog_ng.grants("believed", "203.0.113.1", FORGED)
        syslog_ng.grants("auto")
        warning = (
            f"source[0].escaped: {LOG} is written by syslog-ng, which lets clients begin lines of their own, so nothing "
            "is granted from it; set flags(no-multi-line) in its sources, or escaped = true if you know better"
        )
        assert warning in auto.log()
        assert warning in auto.command("check").stderr

        listen.stop()
        syslog_ng.log_in(FORGED, "203.0.113.2")
        listen.start()
        syslog_ng.grants("listen", "203.0.113.1", "203.0.113.2")

        auto.stop()
        assert "unescaped_source=4" in auto.log()
        conf = "/etc/syslog-ng/syslog-ng.conf"
        lab.sh(f"""
            sed -i 's,unix-dgram("/dev/log"),unix-dgram("/dev/log" flags(no-multi-line)),' {conf}
            syslog-ng-ctl reload
        """)
        auto.start()
        assert "escaped" not in auto.command("check").stderr
        syslog_ng.log_in("198.51.100.67", "203.0.113.3")
        syslog_ng.grants("auto", "203.0.113.3")


def test_rsyslog(rsyslog: Site) -> None:
    lab, auto = rsyslog.lab, rsyslog.daemons["auto"]
    with rsyslog:
        lab.sh("rsyslogd -i /run/rsyslogd.pid")
        rsyslog.log_in(FORGED, "203.0.113.1")
        for name in SOURCES:
            rsyslog.grants(name, "203.0.113.1")

        lab.sh("""
            echo 'global(parser.escapeControlCharactersOnReceive="off")' > /etc/rsyslog.d/raw.conf
            pid=$(cat /run/rsyslogd.pid); kill $pid; while kill -0 $pid 2>/dev/null; do sleep 0.05; done
            rsyslogd -i /run/rsyslogd.pid
        """)
        auto.kill(signal.SIGHUP)
        eventually(lambda: "going on with the new configuration" in auto.log())
        rsyslog.log_in(FORGED, "203.0.113.2")
        rsyslog.grants("listen", "203.0.113.1", "203.0.113.2")
        rsyslog.grants("believed", "203.0.113.1", "203.0.113.2", FORGED)
        rsyslog.grants("auto", "203.0.113.1")
        auto.stop()
        assert "unescaped_source=2" in auto.log()
        assert f"{LOG} is written by rsyslog, which lets clients begin lines of their own" in auto.log()
