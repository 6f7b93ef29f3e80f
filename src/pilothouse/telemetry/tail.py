"""A second reader of the journal, with a place of its own: it goes on where it was, also after a kill."""

from collections.abc import Iterator
from pathlib import Path

import msgspec

from pilothouse.domain.errors import StoreError
from pilothouse.domain.record import Record, SpanRecord
from pilothouse.telemetry.segments import Segment, Slice, segments, take

_READ = {
    b'{"kind":"request",': msgspec.json.Decoder(Record).decode,
    b'{"kind":"span",': msgspec.json.Decoder(SpanRecord).decode,
}


class Place(msgspec.Struct):
    """How far a segment is read. Its file may be gone before it is read to its end: then `lost` is counted."""

    bytes: int = 0
    done: bool = False


class Tail:
    """Requests and spans of the journal below `root`, each at least once: `keep` says that a batch is dealt with.

    The place is kept in `file`. The first reader begins at the end of what is there: it is not for the past.
    """

    def __init__(self, root: Path, file: Path) -> None:
        self._root = root
        self._file = file
        self.lost = 0  # segments that were deleted before they were read to their end
        self._places = self._read()

    def _read(self) -> dict[str, Place]:
        try:
            return msgspec.json.decode(self._file.read_bytes(), type=dict[str, Place])
        except FileNotFoundError:
            places = {segment.key: Place(_size(segment)) for segment in segments(self._root)}
            self._write(places)
            return places
        except (OSError, msgspec.DecodeError) as error:
            raise StoreError(
                f"cannot read how far the journal was forwarded: {error}", where=str(self._file),
                hint="delete the file to begin with what comes now",
            ) from error  # fmt: skip

    def _write(self, places: dict[str, Place]) -> None:
        self._file.parent.mkdir(parents=True, exist_ok=True)
        new = self._file.with_suffix(".new")
        new.write_bytes(msgspec.json.encode(places))
        new.replace(self._file)

    def batches(self, most_bytes: int) -> Iterator[tuple[Slice, list[Record | SpanRecord]]]:
        """What is new, a slice of one segment at a time; lines that cannot be read are the loader's to count."""
        there = list(segments(self._root))
        keys = {segment.key for segment in there}
        for key in [key for key in self._places if key not in keys]:
            self.lost += not self._places.pop(key).done
        for segment in there:
            place = self._places.get(segment.key) or Place()
            while not place.done:
                part = take(segment, place.bytes, most_bytes)
                if part is None:
                    break
                yield part, [line for text in part.data.split(b"\n") if (line := _line(text)) is not None]
                place = self._places.get(segment.key) or Place()
                if place.bytes != part.end:
                    return  # it was not kept: it comes again next time

    def keep(self, part: Slice) -> None:
        """The batch of this slice is dealt with."""
        self._places[part.segment.key] = Place(part.end, part.done)
        self._write(self._places)


def _line(text: bytes) -> Record | SpanRecord | None:
    for prefix, decode in _READ.items():
        if text.startswith(prefix):
            try:
                return decode(text)  # type: ignore[return-value]  # one of the two
            except (msgspec.DecodeError, UnicodeDecodeError):
                return None
    return None


def _size(segment: Segment) -> int:
    try:
        return segment.path.stat().st_size
    except FileNotFoundError:
        return 0
