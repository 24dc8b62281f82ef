"""``python -m worldmodel.cli``: the same as ``worldmodel``."""

from worldmodel.cli import main

main()
