"""Mail servers as Debian packages them, set up in a lab: as stock as a test allows, and quick to answer."""

from __future__ import annotations

from collections.abc import Iterable

from lab import Lab, LabError, eventually

STATE = "/var/lib/pop-before-smtp"
PORTS = {"lmdb": 25, "cdb": 26, "hash": 27, "btree": 28}
"""One smtpd per map type, each with its own map ``STATE/TYPE``."""
SUFFIXES = {"lmdb": "lmdb", "cdb": "cdb", "hash": "db", "btree": "db"}
MYNETWORKS_CLIENTS = ("203.0.113.200", "2001:db8:9::200")
"""Clients that may relay without a login."""
OTHER_LOGS = {
    "/var/log/mail.rfc3164": "RSYSLOG_TraditionalFileFormat",
    "/var/log/mail.rfc5424": "RSYSLOG_SyslogProtocol23Format",
}
"""The same records in other layouts, and rsyslog's name of each."""
PASSWORD = "pw"  # noqa: S105 - of the lab's mail users

POSTFIX = ("postfix", "postfix-lmdb", "postfix-cdb", "rsyslog")
DOVECOT = ("dovecot-imapd", "dovecot-pop3d", "ssl-cert")
COURIER = ("courier-imap", "courier-pop")
EXIM = ("exim4-daemon-light", "exim4-config")
OPENSMTPD = ("opensmtpd",)
COURIER_MTA = ("courier-mta", "netbase")
SENDMAIL = ("sendmail-bin", "sendmail-cf", "m4", "make")

MAIN_CF = """
compatibility_level = 3.6
myhostname = mx.test.example
mydestination = mx.test.example
mynetworks = 127.0.0.0/8 [::1]/128 203.0.113.200/32 [2001:db8:9::200]/128
smtpd_peername_lookup = no
in_flow_delay = 0
smtpd_soft_error_limit = 1000
smtpd_hard_error_limit = 1000
alias_maps =
local_recipient_maps =
"""
# permit_auth_destination stands before our map: its failure must not stop local mail
SMTPD = """
{port} inet n - y - - smtpd
  -o smtpd_relay_restrictions=permit_mynetworks,permit_auth_destination,check_client_access,{kind}:{state}/{kind},reject
"""

DOVECOT_CONF = """
protocols = imap pop3
ssl = yes
ssl_cert = </etc/ssl/certs/ssl-cert-snakeoil.pem
ssl_key = </etc/ssl/private/ssl-cert-snakeoil.key
disable_plaintext_auth = no
auth_failure_delay = 0
auth_username_chars =
first_valid_uid = 1
mail_location = maildir:/tmp/mail
service anvil {
  unix_listener anvil-auth-penalty {
    mode = 0
  }
}
passdb {
  driver = static
  args = password=pw
}
userdb {
  driver = static
  args = uid=mail gid=mail home=/tmp/mail
}
"""
"""Any user with the right password; every character in a name, as an operator may have it."""


def start_rsyslog(lab: Lab) -> None:
    """Start Debian's rsyslog: mail.log with ISO 8601 stamps, root:adm, 0640; beside it :data:`OTHER_LOGS`."""
    rules = "".join(f"mail.* {log};{template}\n" for log, template in OTHER_LOGS.items())
    lab.write("/etc/rsyslog.d/lab.conf", rules)
    lab.sh("""
        sed -i /imklog/d /etc/rsyslog.conf
        install -m 640 -o root -g adm /dev/null /var/log/mail.log
        mkdir -p /var/spool/postfix/dev
        rsyslogd -i /run/rsyslogd.pid
    """)


def start_postfix(lab: Lab) -> None:
    """Start Postfix with one smtpd per map type; no map exists yet."""
    lab.write("/etc/postfix/main.cf", MAIN_CF)
    master = lab.path("/etc/postfix/master.cf")
    services = [line for line in master.read_text().splitlines() if not line.startswith("smtp      inet")]
    services += [SMTPD.format(kind=kind, port=port, state=STATE) for kind, port in PORTS.items()]
    master.write_text("\n".join(services) + "\n")
    lab.sh(f"mkdir -p -m 755 {STATE}; postfix start")
    eventually(lambda: listening(lab, *PORTS.values()), within=20)


def start_dovecot(lab: Lab, *extra: str) -> None:
    """Start Dovecot, IMAP and POP3, plain, STARTTLS and implicit TLS."""
    lab.write("/etc/dovecot/dovecot.conf", DOVECOT_CONF + "\n".join(extra))
    lab.sh("make-ssl-cert generate-default-snakeoil --force-overwrite; mkdir -m 777 -p /tmp/mail; dovecot")
    eventually(lambda: listening(lab, 110, 143, 993, 995), within=20)


def start_courier(lab: Lab) -> None:
    """Start Courier's IMAP and POP3 daemons, plain, STARTTLS and implicit TLS, with one PAM user ``ann``."""
    lab.sh(f"""
        sed -i 's/pam_unix.so/& nodelay/' /etc/pam.d/common-auth
        useradd --create-home ann
        echo ann:{PASSWORD} | chpasswd
        maildirmake.courier ~ann/Maildir
        chown -R ann: ~ann
        mkdir -p /run/courier/authdaemon
        chown -R courier:courier /run/courier
        authdaemond start
        for d in /usr/sbin/imapd imapd-ssl pop3d pop3d-ssl; do $d start; done
    """)
    eventually(lambda: listening(lab, 110, 143, 993, 995), within=20)


def exim_with(hostlist: str, acl: str) -> str:
    """Return a whole configuration around these two parts."""
    return f"""
primary_hostname = mx.test.example
domainlist local_domains = mx.test.example
acl_smtp_rcpt = acl_check_rcpt
{hostlist}
begin acl
{acl}
"""


def start_exim(lab: Lab, settings: str, own: dict[int, str]) -> None:
    """Start Debian's Exim, changed only as by debconf, and one with a configuration of its own at each of other ports.

    Args:
        lab: where to.
        settings: lines for ``update-exim4.conf.conf``, the last of which count.
        own: port and configuration.
    """
    usual = "dc_eximconfig_configtype='internet'\ndc_local_interfaces=''\ndc_other_hostnames='mx.test.example'\n"
    with lab.path("/etc/exim4/update-exim4.conf.conf").open("a") as file:
        file.write(usual + settings)
    lab.sh("update-exim4.conf; install -d -o Debian-exim /run/exim4; exim4 -bd")
    for port, text in own.items():
        lab.write(f"/etc/exim4/own-{port}.conf", text)
        lab.sh(f"exim4 -C /etc/exim4/own-{port}.conf -bd -oX {port} -oP /run/exim4/{port}.pid")
    eventually(lambda: listening(lab, 25, *own), within=20)


def start_courier_mta(lab: Lab) -> None:
    """Start Courier's mail server, without what makes it slow to answer; local users are not asked for."""
    lab.sh("""
        cd /etc/courier
        sed -i 's/^BOFHCHECKDNS=1/BOFHCHECKDNS=0/; s/^TARPIT=1/TARPIT=0/; s/^MAXPER\\(IP\\|C\\)=.*/MAXPER\\1=40/' esmtpd
        sed -i 's/^TCPDOPTS="/&-nodnslookup /' esmtpd
        echo mx.test.example > me
        printf 'localhost\\nmx.test.example\\n' > locals
        install -d -m 775 -g courier /run/courier
        install -d -m 750 -o courier -g courier /run/courier/authdaemon
        makealiases; makeacceptmailfor; makehosteddomains; makesmtpaccess
        courier start; esmtpd start
    """)
    eventually(lambda: listening(lab, 25), within=20)


SENDMAIL_MC = """include(`/usr/share/sendmail/cf/m4/cf.m4')dnl
OSTYPE(`debian')dnl
define(`confSERVICE_SWITCH_FILE', `/etc/mail/service.switch')dnl
define(`confTO_IDENT', `0')dnl
define(`confPID_FILE', `/run/sendmail-{port}.pid')dnl
FEATURE(`no_default_msa')dnl
FEATURE(`use_cw_file')dnl
FEATURE(`accept_unresolvable_domains')dnl
DAEMON_OPTIONS(`Family=inet, Addr=198.51.100.1, Port={port}')dnl
DAEMON_OPTIONS(`Family=inet6, Addr=2001:db8:5::1, Port={port}')dnl
{lines}MAILER(`local')dnl
MAILER(`smtp')dnl
"""


def start_sendmail(lab: Lab, lines: dict[int, str], named: Iterable[str]) -> None:
    """Start a sendmail at each port, with lines of its own before the mailers.

    Args:
        lab: where to.
        lines: port and what its sendmail.mc has beside the usual.
        named: the addresses that have a name; of others sendmail says 450, not 550.
    """
    with lab.path("/etc/hosts").open("a") as file:
        file.writelines(f"{address} client{number}.example\n" for number, address in enumerate(named))
    lab.write("/etc/mail/service.switch", "hosts\tfiles\naliases\tfiles\npasswd\tfiles\n")
    lab.write("/etc/mail/local-host-names", "mx.test.example\n")
    lab.sh("mkdir -p /var/lib/sendmail/host_status")
    for port, text in lines.items():
        lab.write(f"/etc/mail/{port}.mc", SENDMAIL_MC.format(port=port, lines=text))
        cf = f"/etc/mail/{port}.cf"
        lab.sh(f"m4 /etc/mail/{port}.mc > {cf}; sendmail -C {cf} -bd")
    eventually(lambda: listening(lab, *lines), within=20)


def opensmtpd_with(rules: str) -> str:
    """Return a whole smtpd.conf with these lines behind the rule for local mail."""
    return f"""
listen on 198.51.100.1 port 25
listen on 2001:db8:5::1 port 25
table aliases {{ postmaster = root }}
action "local" mbox alias <aliases>
match from any for domain "mx.test.example" action "local"
{rules}
"""


def start_opensmtpd(lab: Lab) -> None:
    """Start OpenSMTPD with the smtpd.conf that is there."""
    lab.sh("smtpd")
    eventually(lambda: listening(lab, 25), within=20)


def listening(lab: Lab, *ports: int) -> bool:
    """Say whether all the ports are listened at."""
    try:
        return {f":{port}" for port in ports} <= {
            ":" + line.split()[3].rpartition(":")[2] for line in lab.sh("ss -Hltn").splitlines()
        }
    except LabError:
        return False
