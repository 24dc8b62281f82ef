"""``python -m worldmodel.cli``: the same as ``worldmodel``."""

from worldmodel.cli import main

if __name__ == "__main__":
    main()
