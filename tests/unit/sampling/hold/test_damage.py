"""What anybody may have written into the hold's files: what is sound goes on, and the rest is counted once."""

from __future__ import annotations

import hashlib
import os
import random
import struct
import zlib
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pytest

from drain.sampling.hold.chunk import Fate
from drain.sampling.hold.origins import OriginError, Origins
from drain.sampling.hold.unreadable import published_in
from ringbuf._ringbuf import lib
from tests.points.hold_walk import CHUNK_BYTES, RESOURCE, opened, records_of
from tests.points.victim import LAYOUT
from tests.unit.sampling.hold.held import ALL_OF_A_CHUNK, HEAD, SEGMENT, SEGMENT_BYTES, chunk_files, found_in, held

if TYPE_CHECKING:
    from pathlib import Path

    from drain.sampling.hold.hold import Hold
    from drain.sampling.hold.origins import Origin


def test_a_segment_without_an_origin_does_not_have_that_of_the_one_before(
    folder: Path, hold: Hold, origin: Origin
) -> None:
    held(hold, origin, 0, 3)
    chunk = hold._chunks.filled
    assert chunk is not None
    chunk.append(replace(chunk.segments[0], origin=None), records_of(0, 3), 0)
    content = chunk_files(folder)[0].read_bytes()
    origins = [content[at : at + 16] for at in (SEGMENT["origin"], SEGMENT["origin"] + SEGMENT_BYTES[3])]
    assert origins == [origin.id, bytes(16)]


def test_records_of_which_nobody_can_say_what_they_are_are_lost_once_and_counted(
    folder: Path, hold: Hold, origin: Origin
) -> None:
    held(hold, origin, 0, 3)
    hold.close()
    for path in folder.glob("origin-*"):
        path.write_bytes(path.read_bytes()[:-1] + b" ")
    again = opened(folder)
    assert again.found == []
    assert (again.sums()[""].lost, again.sums()[""].unaccounted) == (3, 0)
    again.close()
    last = opened(folder)
    assert last.sums() == {}
    last.close()


class Damage(NamedTuple):
    """What is written over a chunk of three segments, of 3, 4 and 5 records; how many are found then, and lost."""

    offset: int
    content: bytes
    found: int
    lost: int
    unsound: int = 1


HOSTILE = {
    "magic": Damage(HEAD["magic"], b"not-this", 12, 0),
    "newer version": Damage(HEAD["version"], struct.pack("<I", 2), 0, 0),
    "version 0": Damage(HEAD["version"], struct.pack("<I", 0), 12, 0),
    "no number": Damage(HEAD["number"], bytes(8), 12, 0),
    "another number": Damage(HEAD["number"], struct.pack("<Q", 12), 0, 0, 0),
    "file_bytes": Damage(HEAD["file_bytes"], struct.pack("<I", 2**31), 0, 12),
    "boot": Damage(HEAD["boot_id"], bytes(16), 12, 0, 0),
    "unpublished": Damage(SEGMENT["number"], bytes(8), 0, 0, 0),
    "count": Damage(SEGMENT["count"], struct.pack("<I", 2**32 - 1), 9, 3),
    "slot_bytes": Damage(SEGMENT["slot_bytes"], struct.pack("<I", 0), 9, 3),
    "lane": Damage(SEGMENT["lane"], struct.pack("<I", 64), 9, 3),
    "origin": Damage(SEGMENT["origin"], bytes(16), 9, 3),
    "crc32": Damage(SEGMENT["crc32"], bytes(4), 9, 3),
    "crc32 of the last": Damage(SEGMENT["crc32"] + SEGMENT_BYTES[3] + SEGMENT_BYTES[4], bytes(4), 7, 5),
    "count of the last": Damage(SEGMENT["count"] + SEGMENT_BYTES[3] + SEGMENT_BYTES[4], b"\xff" * 4, 7, 0),
    "head and first": Damage(HEAD["magic"], bytes(lib.RB_CHUNK_HEAD_BYTES + 40), 0, 0),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_of_a_chunk_that_is_damaged_what_is_sound_goes_on_and_the_rest_is_counted_once(
    name: str, folder: Path, hold: Hold, origin: Origin
) -> None:
    places = [held(hold, origin, first, count) for first, count in ((0, 3), (3, 4), (7, 5))]
    hold.close()
    (path,) = chunk_files(folder)
    damage = HOSTILE[name]
    with path.open("r+b") as file:
        file.seek(damage.offset)
        file.write(damage.content)
    again = opened(folder)
    assert len(found_in(again)) == damage.found
    assert again.unsound == damage.unsound
    assert sum(sums.lost for sums in again.sums().values()) == damage.lost
    assert all(sums.unaccounted == 0 for sums in again.sums().values())
    again.settle(np.concatenate([found.places for found in again.found] or places)[:1], Fate.DELIVERED)
    held(again, again.origin(LAYOUT.to_json(), RESOURCE, 7), 12, 3)
    again.close()
    last = opened(folder)
    assert len(found_in(last)) == max(damage.found - 1, 0) + 3
    assert sum(sums.lost for sums in last.sums().values()) == 0, "counted twice"
    last.close()


@pytest.mark.parametrize("size", [0, 100, 4096, CHUNK_BYTES - 4096, CHUNK_BYTES - 1, CHUNK_BYTES + 4096, 1 << 40])
def test_what_waited_in_a_file_that_was_cut_while_no_drain_ran_is_counted_as_far_as_it_is_known(
    size: int, folder: Path, hold: Hold, origin: Origin
) -> None:
    places = held(hold, origin, 0, 30)
    hold.settle(places[:10], Fate.DELIVERED)
    hold.close()
    os.truncate(chunk_files(folder)[0], size)
    again = opened(folder)
    assert (again.found, again.unsound) == ([], 1)
    assert sum(sums.lost for sums in again.sums().values()) == (30 if size > 100 else 0), "whose words are gone, too"
    again.close()
    assert opened(folder).sums() == {}, "counted twice"


@pytest.mark.parametrize("seed", range(8))
def test_bytes_that_anybody_may_have_written_do_no_harm(seed: int, folder: Path, hold: Hold, origin: Origin) -> None:
    dice = random.Random(seed)  # noqa: S311 - a seed is what is wanted
    held(hold, origin, 0, 40)
    held(hold, origin, 40, 40)
    hold.close()
    for _ in range(20):
        for path in folder.iterdir():
            content = bytearray(path.read_bytes())
            for _ in range(dice.randint(1, 4)):
                at = dice.choice([dice.randrange(len(content)), dice.randrange(min(512, len(content)))])
                content[at] = dice.choice([0, 1, 255, dice.randrange(256)])
            path.write_bytes(content)
        again = opened(folder)
        # A record's bytes are the encoder's to check; that so many are there, and can be read, is the hold's.
        for found in again.found:
            assert sum(len(group.records) for group in again.records(found.places)) == len(found.places)
            again.settle(found.places[:2], Fate.DELIVERED)
        assert all(sums.unaccounted == 0 for sums in again.sums().values())
        again.close()


def rewrite_segment_behind(spans: int, path: Path, **numbers: int) -> None:
    """Change numbers of 32 bits in the head of the segment behind one of so many spans, and make its checksum right."""
    begin = lib.RB_CHUNK_HEAD_BYTES + SEGMENT_BYTES[spans]
    head = bytearray(path.read_bytes()[begin : begin + lib.RB_SEGMENT_HEAD_BYTES])
    at = {name: offset - lib.RB_CHUNK_HEAD_BYTES for name, offset in SEGMENT.items()}
    for name, number in numbers.items():
        struct.pack_into("<I", head, at[name], number)
    struct.pack_into("<I", head, at["crc32"], zlib.crc32(head[at["bytes"] :]))
    with path.open("r+b") as file:
        file.seek(begin)
        file.write(head)


def test_numbers_that_are_wrong_under_a_right_checksum_are_not_believed(
    folder: Path, hold: Hold, origin: Origin
) -> None:
    held(hold, origin, 0, 3)
    held(hold, origin, 3, 4)
    hold.close()
    (path,) = chunk_files(folder)
    rewrite_segment_behind(3, path, first_slot=0)  # another's
    again = opened(folder)
    assert found_in(again) == {0, 1, 2}
    assert (again.unsound, again.sums()[""].lost) == (1, 4)
    again.close()


def test_what_waited_is_counted_to_its_end_though_a_segment_says_that_it_has_none(
    folder: Path, hold: Hold, origin: Origin
) -> None:
    held(hold, origin, 0, 3)
    held(hold, origin, 3, 4)
    hold.close()
    (path,) = chunk_files(folder)
    rewrite_segment_behind(3, path, bytes=0, count=0)
    os.truncate(path, CHUNK_BYTES - 1)
    assert published_in(path) == {origin.id: 3}


def test_a_chunk_with_holes_is_not_used(folder: Path, hold: Hold, origin: Origin) -> None:
    """Reading a hole asks for memory, and where there is none that is a signal."""
    held(hold, origin, 0, 3)
    hold.close()
    (path,) = chunk_files(folder)
    os.truncate(path, 4096)
    os.truncate(path, CHUNK_BYTES)
    again = opened(folder)
    assert (again.found, again.unsound, again.sums()["walker"].lost) == ([], 1, 3)
    again.close()


def test_an_origin_whose_threshold_cannot_be_is_none(folder: Path, hold: Hold) -> None:
    """The hash of a file says that it is whole, and not who wrote it; the trace table would end the drain."""
    document = bytearray(hold.origin(LAYOUT.to_json(), RESOURCE, lib.RB_THRESHOLDS).document)
    document[16:24] = struct.pack("<Q", lib.RB_THRESHOLDS + 1)
    identity = hashlib.blake2b(document, digest_size=16).digest()
    folder.joinpath(f"origin-{identity.hex()}").write_bytes(document)
    with pytest.raises(OriginError, match="not an origin"):
        Origins(folder).of(identity)


def test_where_moved_records_were_is_not_believed_when_it_is_damaged(folder: Path, hold: Hold, origin: Origin) -> None:
    first = held(hold, origin, 0, ALL_OF_A_CHUNK)
    hold.settle(first[2:], Fate.DELIVERED)
    hold._chunks._begin(spare=0)
    (chunk,) = [chunk for chunk in hold._chunks if chunk.waiting]
    assert hold._chunks._move_out(chunk)
    hold.close()
    (moved,) = [path for path in chunk_files(folder) if path != chunk.path]
    with moved.open("r+b") as file:
        file.seek(lib.RB_CHUNK_HEAD_BYTES + lib.RB_SEGMENT_HEAD_BYTES)
        file.write(b"\7")
    again = opened(folder)
    assert (found_in(again), again.unsound) == ({0, 1}, 1)
    again.close()


@pytest.mark.parametrize("word", [lib.RB_HELD_LOST + 1, 200, 256, 2**32 - 1])
def test_a_record_whose_word_no_drain_has_stored_waits(word: int, folder: Path, hold: Hold, origin: Origin) -> None:
    held(hold, origin, 0, 3)
    hold.close()
    (path,) = chunk_files(folder)
    with path.open("r+b") as file:
        file.seek(CHUNK_BYTES - 8)  # of the second
        file.write(struct.pack("<I", word))
    again = opened(folder)
    assert found_in(again) == {0, 1, 2}
    assert (again.sums()["walker"].waiting, again.sums()["walker"].unaccounted) == (3, 0)
    again.close()


def test_what_is_no_file_of_ours_is_set_aside(folder: Path, hold: Hold, origin: Origin, tmp_path: Path) -> None:
    held(hold, origin, 0, 3)
    hold.close()
    (path,) = chunk_files(folder)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(path.read_bytes())
    (folder / "chunk-link").symlink_to(elsewhere)
    (folder / "chunk-copy").write_bytes(path.read_bytes())
    (folder / "chunk-folder").mkdir()
    os.mkfifo(folder / "chunk-pipe")
    with (folder / "chunk-sparse").open("wb") as file:
        file.truncate(CHUNK_BYTES)
    (folder / ".part-chunk-half").write_bytes(b"half")
    again = opened(folder)
    assert found_in(again) == {0, 1, 2}
    assert again.unsound == 5
    assert not list(folder.glob(".part-*"))
    again.close()
    opened(folder).close()
    assert len(list(folder.glob("unsound-*"))) <= 4
