"""Print what the ring at the given path holds, as JSON, by the compiled consumer alone. Run where the wheel is."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from ringbuf._ringbuf import ffi, lib


def main(path: str) -> None:
    """Attach as the consumer, copy lane 0 and print the header's counts and the records."""
    consumer = ffi.new("rb_consumer **")
    error = ffi.new("rb_error *")
    with Path(path).open("r+b") as file:
        if lib.rb_attach(file.fileno(), lib.RB_CONSUME, 0, consumer, error) != lib.RB_OK:
            sys.exit(ffi.string(error.detail).decode())
    header = lib.rb_consumer_header(consumer[0])
    views = ffi.new("rb_lane_view[]", header.lane_count)
    ready = lib.rb_poll(consumer[0], views)
    records = ffi.new("rb_record[]", header.capacity_slots)
    copied = lib.rb_copy(consumer[0], 0, records, header.capacity_slots)
    if copied < 0:
        sys.exit(ffi.string(lib.rb_strerror(copied)).decode())
    spans = [
        {
            "start": record.start_unix_nano,
            "end": record.end_unix_nano,
            "flags": record.flags,
            "trace_id": bytes(record.trace_id).hex(),
            "span_id": bytes(record.span_id).hex(),
        }
        for record in records[0:copied]
    ]
    print(json.dumps({"ready": ready, "closed": views[0].closed, "slot_bytes": header.slot_bytes, "spans": spans}))  # noqa: T201 - for the test
    lib.rb_consumer_free(consumer[0])


if __name__ == "__main__":
    main(sys.argv[1])
