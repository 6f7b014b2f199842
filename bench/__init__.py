"""Figures for the README: speed, latency and memory.

Each module here has a function ``rows``, which yields :data:`Row`; ``make bench`` prints them all as one table.
"""

Row = tuple[str, str, str]
"""What was measured, the figure, and what it should be (empty where there is no target)."""
