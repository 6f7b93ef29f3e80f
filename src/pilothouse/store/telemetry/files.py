"""Files beside the store: how SQL names one where no parameter can be bound, and how one gets safely to the disk."""

import os
from pathlib import Path


def quoted(text: Path | str) -> str:
    """A path or a text as SQL writes it, in quotes."""
    return "'" + str(text).replace("'", "''") + "'"


def synced(path: Path) -> None:
    """Hand a file, or a folder's entries, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
