"""How much of a worker's journal waits to be loaded: the loader tells how far it is, the worker measures its files.

The file stays true when control is gone: nothing more is loaded then.
"""

from collections.abc import Mapping
from pathlib import Path

import msgspec

from pilothouse.telemetry.segment_name import SUFFIX
from pilothouse.telemetry.segments import Position, segments

FILE = ".loaded"  # beside the workers' directories: `worker/segment` → bytes that are loaded
_decode = msgspec.json.Decoder(dict[str, int]).decode


def tell(root: Path, positions: Mapping[str, Position]) -> None:
    """Write how far each segment that is there is loaded; readers see the old file or the new one. Raises OSError."""
    loaded = {s.key: positions[s.key].loaded_bytes for s in segments(root) if s.key in positions}
    fresh = root / f"{FILE}.new"
    fresh.write_bytes(msgspec.json.encode(loaded))
    fresh.replace(root / FILE)


def waiting_bytes(root: Path, worker: str) -> int:
    """Bytes of the worker's segments that are not loaded, as far as the loader has told; all of them where it never
    has.
    """
    try:
        loaded = _decode((root / FILE).read_bytes())
    except (OSError, msgspec.DecodeError):
        loaded = {}
    return sum(
        max(0, _size(path) - loaded.get(f"{worker}/{path.name}", 0)) for path in (root / worker).glob(f"*{SUFFIX}")
    )


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:  # loaded and deleted meanwhile
        return 0
