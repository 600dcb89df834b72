"""How the exporter of kind "file" writes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FileOptions:
    """How a file is written.

    Attributes:
        sync: wait for the disk (fdatasync) before a batch counts as delivered. Without it a batch survives a kill of
            the drain, but not a loss of power.
        rotate_bytes: start a new file before this size would be exceeded; 0 never.
        rotate_seconds: start a new file at the first batch that comes so long after the file was opened; 0 never.
        keep: how many rotated files are left, the newest; 0 all.
        compression: "none", or "zstd": each batch is a zstd frame, so that the file can be cut behind any batch;
            `zstd -dc` reads it.

    Raises:
        ValueError: a number is negative, or the compression is another.
    """

    sync: bool = False
    rotate_bytes: int = 0
    rotate_seconds: float = 0.0
    keep: int = 0
    compression: str = "none"

    def __post_init__(self) -> None:
        """Refuse what would be ignored."""
        if min(self.rotate_bytes, self.rotate_seconds, self.keep) < 0:
            raise ValueError("file rotation: size, age and number of files must not be negative")
        if self.keep and not (self.rotate_bytes or self.rotate_seconds):
            raise ValueError("file rotation: a number of files to keep needs a size or an age to rotate at")
        if self.compression not in {"none", "zstd"}:
            raise ValueError(f"a file cannot be compressed with {self.compression!r}: choose none or zstd")
