"""librdkafka's mock cluster in a process of its own: brokers that speak the protocol, and fail as they are told.

Run as a program it serves one, and obeys the lines on its standard input; as a module it starts such a process.
The functions are not part of the library's Python: they are called in the shared object that its wheel brings.

It forgets what brokers remember. An idempotent producer numbers its messages, and begins at 0 again in each *epoch*; it
begins a new one after some errors and time-outs. Brokers keep the last number of a producer and its epoch; this cluster
keeps it of the producer alone (librdkafka 2.16, rdkafka_mock.c): it takes the new 0 for a message that it has had,
acknowledges it and writes nothing. Of 75 clients that met errors 6, 7 or 19 with several requests under way, 49 lost a
message so; of 75 that were not idempotent, none. Who injects errors and counts what arrived sets `IMPATIENT`.
"""

from __future__ import annotations

import ctypes
import subprocess
import sys
import threading
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Sequence

PRODUCE = 0  # a request's number in the protocol
TOPIC = "otlp_spans"
IMPATIENT = """\
[kafka]
enable.idempotence = false
message.timeout.ms = 3000
socket.timeout.ms = 2000
reconnect.backoff.max.ms = 500
"""
"""Configuration of a drain that a storm over brokers strikes."""


class MockCluster:
    """A process with a mock cluster.

    Args:
        brokers: how many; they have the numbers from 1.
        partitions: of the topic `otlp_spans`; 0: there is none.

    Attributes:
        bootstrap: HOST:PORT of all, with commas.
    """

    def __init__(self, brokers: int = 3, partitions: int = 4) -> None:
        self._lock = threading.Lock()
        self.process = subprocess.Popen(
            [sys.executable, "-I", __file__, str(brokers), str(partitions)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.bootstrap = self._answer()
        assert self.bootstrap, "the mock cluster did not start"

    def down(self, broker: int) -> None:
        self._tell("down", broker)

    def up(self, broker: int) -> None:
        self._tell("up", broker)

    def lead(self, partition: int, broker: int) -> None:
        """Let another broker be a partition's leader."""
        self._tell("lead", partition, broker)

    def fail(self, codes: Sequence[int], request: int = PRODUCE) -> None:
        """Let the next requests of this kind be answered with these errors, and with none that were told before."""
        self._tell("fail", request, *codes)

    def _tell(self, *words: object) -> None:
        assert self.process.stdin is not None
        with self._lock:
            self.process.stdin.write(" ".join(map(str, words)) + "\n")
            self.process.stdin.flush()
            assert self._answer() == "ok"

    def _answer(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()


def library() -> Any:
    """Return librdkafka, with the types of what is called here."""
    spec = find_spec("confluent_kafka")
    assert spec is not None
    assert spec.origin is not None
    (path,) = Path(spec.origin).parent.with_name("confluent_kafka.libs").glob("librdkafka-*")
    found = ctypes.CDLL(str(path))
    pointer, text, number = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int
    found.rd_kafka_conf_new.restype = pointer
    found.rd_kafka_conf_set.argtypes = [pointer, text, text, text, ctypes.c_size_t]
    found.rd_kafka_new.restype = pointer
    found.rd_kafka_new.argtypes = [number, pointer, text, ctypes.c_size_t]
    found.rd_kafka_mock_cluster_new.restype = pointer
    found.rd_kafka_mock_cluster_new.argtypes = [pointer, number]
    found.rd_kafka_mock_cluster_bootstraps.restype = text
    found.rd_kafka_mock_cluster_bootstraps.argtypes = [pointer]
    found.rd_kafka_mock_topic_create.argtypes = [pointer, text, number, number]
    found.rd_kafka_mock_broker_set_down.argtypes = [pointer, ctypes.c_int32]
    found.rd_kafka_mock_broker_set_up.argtypes = [pointer, ctypes.c_int32]
    found.rd_kafka_mock_partition_set_leader.argtypes = [pointer, text, ctypes.c_int32, ctypes.c_int32]
    found.rd_kafka_mock_push_request_errors_array.argtypes = [
        *(pointer, ctypes.c_int16, ctypes.c_size_t, ctypes.POINTER(number))
    ]
    found.rd_kafka_mock_push_request_errors_array.restype = None
    found.rd_kafka_mock_clear_request_errors.argtypes = [pointer, ctypes.c_int16]
    found.rd_kafka_mock_clear_request_errors.restype = None
    return found


def serve(brokers: int, partitions: int) -> None:
    """Serve a cluster until the input ends."""
    loaded = library()
    error = ctypes.create_string_buffer(512)
    client = loaded.rd_kafka_new(0, loaded.rd_kafka_conf_new(), error, len(error))
    assert client, error.value
    cluster = loaded.rd_kafka_mock_cluster_new(client, brokers)
    if partitions:
        assert loaded.rd_kafka_mock_topic_create(cluster, TOPIC.encode(), partitions, min(brokers, 3)) == 0
    print(loaded.rd_kafka_mock_cluster_bootstraps(cluster).decode(), flush=True)  # noqa: T201 - whoever started it waits
    for line in sys.stdin:
        command, *words = line.split()
        numbers = list(map(int, words))
        match command:
            case "down":
                failed = loaded.rd_kafka_mock_broker_set_down(cluster, *numbers)
            case "up":
                failed = loaded.rd_kafka_mock_broker_set_up(cluster, *numbers)
            case "lead":
                failed = loaded.rd_kafka_mock_partition_set_leader(cluster, TOPIC.encode(), *numbers)
            case "fail":
                codes = numbers[1:]
                loaded.rd_kafka_mock_clear_request_errors(cluster, numbers[0])
                array = (ctypes.c_int * len(codes))(*codes)
                failed = loaded.rd_kafka_mock_push_request_errors_array(cluster, numbers[0], len(codes), array)
            case _:
                failed = 1
        print("ok" if not failed else f"failed: {line}", flush=True)  # noqa: T201 - as above


if __name__ == "__main__":
    serve(int(sys.argv[1]), int(sys.argv[2]))
