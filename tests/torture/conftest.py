"""Says at the end how much was tried."""

from torture import DRIVEN, FINISHED, KILLED


def pytest_terminal_summary(terminalreporter) -> None:
    if DRIVEN:
        each = ", ".join(f"{name.removeprefix('test_')} {n:,}" for name, n in DRIVEN.items())
        terminalreporter.write_line(f"{DRIVEN.total():,} inputs were tried: {each}")
    if KILLED:
        each = ", ".join(
            f"{name.removeprefix('test_')} {n} (done before: {FINISHED[name]})"
            for name, n in KILLED.items()
        )
        terminalreporter.write_line(f"{KILLED.total():,} kills: {each}")
