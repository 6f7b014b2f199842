dnl
dnl Lets a client relay while pop-before-smtp has a lease for its address. Belongs into cf/hack; in sendmail.mc, behind
dnl the FEATURE lines and before the MAILER lines:
dnl
dnl   HACK(`popbeforesmtp')dnl
dnl   HACK(`popbeforesmtp', `hash -o /var/lib/pop-before-smtp/popauth')dnl   the same
dnl   HACK(`popbeforesmtp', `', `auth')dnl   its mail also counts as authenticated
dnl
dnl The second argument is a map as in a K line, without -a and -T. A client has a lease if its address is a key with the
dnl value OK. Whatever else the map answers, or if it cannot, leaves everything to the other rules.
dnl With `auth', ${auth_type} is POP in each transaction of such a client, which milters and the Received line show.
dnl
divert(0)dnl
VERSIONID(`popbeforesmtp.m4')
divert(-1)

LOCAL_CONFIG
# addresses that have just fetched mail
Kpopbeforesmtp ifelse(defn(`_ARG_'), `', `hash -o /var/lib/pop-before-smtp/popauth', `_ARG_')
ifelse(_ARG2_, `auth', `Kpopbeforesmtp_set macro', `dnl')

LOCAL_RULESETS
# PopBeforeSmtp: has the client a lease? OK or NO; the workspace is ignored
SPopBeforeSmtp
R$*			$: $(popbeforesmtp $&{client_addr} $: NO $)
ROK			$@ OK
R$*			$@ NO

# no blocklist and no access entry for its connection
SLocal_check_relay
R$*			$: $1 $| $>PopBeforeSmtp
R$* $| OK		$# OK
R$* $| NO		$: $1

# any recipient
SLocal_check_rcpt
R$*			$: $1 $| $>PopBeforeSmtp
R$* $| OK		$# OK
R$* $| NO		$: $1
ifelse(_ARG2_, `auth', `
# authenticated, for this transaction
SLocal_check_mail
R$*			$: $1 $| $>PopBeforeSmtp
R$* $| OK		$: $(popbeforesmtp_set {auth_type} $@ POP $) $1
R$* $| NO		$: $1', `dnl')
