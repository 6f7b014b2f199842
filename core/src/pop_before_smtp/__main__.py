"""``python -m pop_before_smtp``: the same as the command ``pop-before-smtp``."""

from ._cli import main

main()
