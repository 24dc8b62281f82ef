"""What is not ours and raises something says so in one line, which a process can hand on."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import gymnasium as gym

from worldmodel.errors import SourceError, WorldModelError


@contextmanager
def blamed(who: str, when: str) -> Iterator[None]:
    """Name an environment, or a policy, that raises something.

    Args:
        who: Its name.
        when: In words, after "raised ...".

    Raises:
        SourceError: Something was raised that is neither ours nor Gymnasium's; says what, when and
            in which line.
    """
    try:
        yield
    except (WorldModelError, gym.error.Error):
        raise
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        said = " ".join(str(error).split())
        raise SourceError(
            f"{who} raised {type(error).__name__} {when}, in {Path(last.filename).name}, "
            f"line {last.lineno}: {said}"
        ) from error
