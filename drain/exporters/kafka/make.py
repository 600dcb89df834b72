"""Makes the exporter of kind "kafka": the library is loaded by who sends to Kafka, and by nobody else."""

from __future__ import annotations

from typing import TYPE_CHECKING

from drain.exporters.kafka.options import KafkaOptions

if TYPE_CHECKING:
    from drain.exporters.make import Destination
    from drain.exporters.protocol import Exporter


def make(destination: Destination) -> Exporter:
    """Return the exporter of kind "kafka".

    Raises:
        ValueError: a property cannot be, or the library is not installed.
    """
    try:
        from drain.exporters.kafka.exporter import KafkaExporter  # noqa: PLC0415 - the only one that needs it
    except ImportError as error:
        raise ValueError(
            "exporter kafka needs confluent-kafka: pip install 'ringbuf-spans[kafka]' (it has wheels for glibc, and "
            f"none for musl, as in Alpine): {error}"
        ) from None
    return KafkaExporter(destination.kafka or KafkaOptions())
