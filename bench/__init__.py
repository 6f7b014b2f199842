"""Figures for the README: speed, latency and memory (``make bench``)."""
