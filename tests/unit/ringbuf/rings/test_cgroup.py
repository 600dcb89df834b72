"""The memory limit of a control group, from files as the kernel writes them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ringbuf.ring.cgroup import memory_limit

if TYPE_CHECKING:
    from pathlib import Path

GIB = 1 << 30


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@pytest.mark.parametrize(
    ("files", "limit"),
    [
        ({}, None),
        ({"proc/self/cgroup": "0::/\n"}, None),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "max\n"}, None),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": f"{GIB}\n"}, GIB),
        ({"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/b/memory.max": f"{GIB}\n"}, GIB),
        # The one around is less.
        (
            {
                "proc/self/cgroup": "0::/a/b\n",
                "sys/fs/cgroup/a/b/memory.max": f"{GIB}\n",
                "sys/fs/cgroup/a/memory.max": "1000\n",
            },
            1000,
        ),
        # The host's path, where only the container's own group is mounted.
        ({"proc/self/cgroup": "0::/kubepods/pod1/c\n", "sys/fs/cgroup/memory.max": "4096\n"}, 4096),
        # Version 1, and a mixture of both.
        (
            {
                "proc/self/cgroup": "12:cpu,cpuacct:/x\n5:memory:/docker/c\n0::/docker/c\n",
                "sys/fs/cgroup/memory/docker/c/memory.limit_in_bytes": "536870912\n",
            },
            1 << 29,
        ),
        (
            {
                "proc/self/cgroup": "5:memory:/\n",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
            },
            9223372036854771712,
        ),
        ({"proc/self/cgroup": "1:name=systemd:/x:y\n", "sys/fs/cgroup/memory.max": "5\n"}, None),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "no number\n"}, None),
    ],
)
def test_the_least_limit_around_counts(tmp_path: Path, files: dict[str, str], limit: int | None) -> None:
    write(tmp_path, files)
    assert memory_limit(tmp_path) == limit


def test_the_limit_of_this_process_can_be_asked() -> None:
    limit = memory_limit()
    assert limit is None or limit > 0
