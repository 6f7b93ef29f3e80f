"""The commit of the app's repository that a release is made from."""

import subprocess
from pathlib import Path

_DIRTY = "-dirty"


def describe(folder: Path) -> str:
    """The commit checked out at `folder`, with `-dirty` behind it where tracked files differ; empty outside git."""
    commit = _git(folder, "rev-parse", "HEAD")
    if not commit:
        return ""
    changed = _git(folder, "status", "--porcelain", "--untracked-files=no", "--", ".")
    return commit + (_DIRTY if changed else "")


def split(description: str) -> tuple[str, bool]:
    """(commit, whether files differed from it) of what `describe` gave."""
    return description.removesuffix(_DIRTY), description.endswith(_DIRTY)


def _git(folder: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments],  # noqa: S607  # the user's own git
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""  # no git here: the release then says that its commit is not known
    return done.stdout.strip() if done.returncode == 0 else ""
