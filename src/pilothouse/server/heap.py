"""What glibc's allocator is told (mallopt(3)), so that a process keeps little of what it has freed."""

import ctypes

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8  # malloc.h


def give_back() -> None:
    """Have large blocks come from the kernel and go back to it: bodies of megabytes would otherwise grow the heap.

    glibc raises its threshold for that with each large block that is freed, unless it is set.
    """
    _tell(_M_MMAP_THRESHOLD, 256 << 10)
    _tell(_M_TRIM_THRESHOLD, 4 << 20)


def share() -> None:
    """Have all threads allocate from two heaps: eight a core, as is usual, each keep some of what was freed in them."""
    _tell(_M_ARENA_MAX, 2)


def _tell(what: int, value: int) -> None:
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(what, value)
