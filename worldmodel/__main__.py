"""``python -m worldmodel``, which ``torchrun`` starts processes by."""

from worldmodel.cli import main

if __name__ == "__main__":
    main()
