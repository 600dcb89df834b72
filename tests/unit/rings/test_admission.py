"""Which files a drain looks into at all."""

from __future__ import annotations

import os
import stat

import pytest

from drain.rings.admission import Admission

OURS = os.geteuid()
OTHER_UID = OURS + 1000
OTHER_GID = 4711


def status(*, mode: int = stat.S_IFREG | 0o600, uid: int = OURS, links: int = 1, size: int = 8192) -> os.stat_result:
    return os.stat_result((mode, 1, 1, links, uid, OTHER_GID, size, 0, 0, 0))


ALONE = Admission(frozenset(), frozenset(), max_ring_bytes=8192)


def test_a_regular_file_of_ours_is_taken() -> None:
    assert ALONE.refusal(status()) is None


@pytest.mark.parametrize("kind", [stat.S_IFIFO, stat.S_IFDIR, stat.S_IFCHR, stat.S_IFSOCK])
def test_what_is_not_a_regular_file_is_refused(kind: int) -> None:
    assert ALONE.refusal(status(mode=kind | 0o600)) == "not a regular file"


def test_another_users_file_is_refused_unless_its_owner_or_group_is_allowed() -> None:
    foreign = status(uid=OTHER_UID)
    assert "--allow-uid" in (ALONE.refusal(foreign) or "")
    assert Admission(frozenset({OTHER_UID}), frozenset(), 8192).refusal(foreign) is None
    assert Admission(frozenset(), frozenset({OTHER_GID}), 8192).refusal(foreign) is None
    assert Admission(frozenset({OTHER_UID + 1}), frozenset({OTHER_GID + 1}), 8192).refusal(foreign) is not None


def test_a_file_with_a_second_name_is_refused() -> None:
    assert ALONE.refusal(status(links=2)) == "has 2 names"


def test_a_file_beyond_the_size_limit_is_refused() -> None:
    assert "--max-ring-bytes" in (ALONE.refusal(status(size=8193)) or "")
