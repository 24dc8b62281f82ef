"""Says at the end how much was tried."""

from torture import DRIVEN


def pytest_terminal_summary(terminalreporter) -> None:
    if DRIVEN:
        each = ", ".join(f"{name.removeprefix('test_')} {n:,}" for name, n in DRIVEN.items())
        terminalreporter.write_line(f"{DRIVEN.total():,} inputs were tried: {each}")
