"""Dovecot log parser for pop-before-smtp."""
