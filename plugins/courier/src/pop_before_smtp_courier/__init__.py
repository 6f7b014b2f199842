"""Courier log parser for pop-before-smtp."""
