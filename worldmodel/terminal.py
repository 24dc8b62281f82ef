"""The terminal, to which what others named is text: no code in it sets, clears or turns anything.

Streams, environments, paths and notes come from files of strangers, and their names may hold what
a terminal obeys.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

# C0 but for tab and newline, DEL, C1, what turns the direction of writing, and halves of pairs, by
# which Python spells bytes of a path that are no text.
_CODES = (range(9), range(11, 32), range(127, 160), range(0x202A, 0x202F), range(0x2066, 0x206A))
_ESCAPED = {
    code: ascii(chr(code))[1:-1] for codes in (*_CODES, range(0xD800, 0xE000)) for code in codes
}


def shown(text: str) -> str:
    r"""Text with what a terminal would obey spelt as in Python, such as ``\x1b``."""
    return text.translate(_ESCAPED)


class Terminal(Console):
    """Rich's console; what it prints is neither markup nor a command, and fits any encoding.

    Args:
        stderr: Whether to print there.
        settings: Others of ``rich.console.Console``.
    """

    def __init__(self, stderr: bool = False, **settings: Any) -> None:
        super().__init__(markup=False, highlight=False, stderr=stderr, **settings)

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """See ``rich.console.Console.render``."""
        encoding = getattr(self.file, "encoding", None) or "utf-8"
        for segment in super().render(renderable, options):
            text = shown(segment.text).encode(encoding, "replace").decode(encoding)
            yield segment if segment.control else segment._replace(text=text)
