"""Postfix map writer and netblock discovery for pop-before-smtp."""
