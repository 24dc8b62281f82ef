"""Write JSON whole or not at all."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any


def write_json(path: Path, tree: dict[str, Any]) -> None:
    """Write ``tree`` to ``path`` by way of a temporary file beside it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(json.dumps(tree, indent=2, allow_nan=False) + "\n")
    os.replace(temporary, path)
