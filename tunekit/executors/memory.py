"""How much memory is left: on this machine, or within the limits of the container that this process runs in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psutil

CGROUPS = Path("/sys/fs/cgroup")
"""Where Linux tells the limits of groups of processes, such as those of a container."""

MEMBERSHIP = Path("/proc/self/cgroup")
"""Which groups this process is in: lines such as "0::/a/b", or "4:memory:/a/b" of version 1."""

FILES = {
    "": ("memory.max", "memory.current", "inactive_file"),
    "memory": ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
}
"""By controller, which version 2 doesn't name: the limit, what is used, and how much of it are files that give way."""


def free_memory(cgroups: Path = CGROUPS, membership: Path = MEMBERSHIP) -> int:
    """Bytes that are available: the machine's, or what a limit leaves of them.

    Args:
        cgroups: see `CGROUPS`.
        membership: see `MEMBERSHIP`.
    """
    left = [_left(folder, *names) for folder, names in _groups(cgroups, membership)]
    return max(0, min([int(psutil.virtual_memory().available), *(one for one in left if one is not None)]))


def _groups(cgroups: Path, membership: Path) -> Iterator[tuple[Path, tuple[str, str, str]]]:
    """The groups that this process is in, and those that they are in: folders, and the names of their files."""
    lines = membership.read_text().splitlines() if membership.exists() else []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        names = FILES.get(controllers)
        if names is not None:
            root = cgroups / controllers
            group = Path(path.lstrip("/"))  # there is none where a container is told what it is outside
            yield from ((root / one, names) for one in (group, *group.parents))


def _left(group: Path, limit: str, used: str, files: str) -> int | None:
    """Bytes that a group may still take; None where it has no limit."""
    try:
        most = (group / limit).read_text().strip()
        taken = int((group / used).read_text())
        told = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
    except OSError:  # no such group, or the outermost, which has no limit
        return None
    return None if most == "max" else int(most) - taken + int(told.get(files, 0))
