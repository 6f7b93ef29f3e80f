"""What the files of a journal are called."""

import re
from typing import NamedTuple

SUFFIX = ".ndjson"
_NAME = re.compile(r"^(\d+)-(\d+)-(\d+)\.ndjson$")


class SegmentName(NamedTuple):
    """What a segment's file name says; sorts in the order of writing within a worker."""

    start_us: int
    seq: int
    pid: int

    @classmethod
    def parse(cls, name: str) -> "SegmentName | None":
        """The parts of `<start_us>-<pid>-<seq>.ndjson`, or None for any other file."""
        found = _NAME.match(name)
        return cls(int(found[1]), int(found[3]), int(found[2])) if found else None

    def file(self) -> str:
        """The file name."""
        return f"{self.start_us}-{self.pid}-{self.seq}{SUFFIX}"
