"""What an operator is told of a topic: what loses spans, and what is not possible."""

from __future__ import annotations

import pytest

pytest.importorskip("confluent_kafka", reason="needs confluent-kafka, the extra [kafka]")

from drain.exporters.kafka.topic import Topic

SOUND = {"min.insync.replicas": "2", "cleanup.policy": "delete", "max.message.bytes": "1048588"}


@pytest.mark.parametrize(
    ("topic", "said"),
    [
        (Topic(True, "", 12, 0, 3, SOUND), []),
        (Topic(True, "", 12, 0, 3), []),  # whoever may not see the settings is told nothing about them
        (Topic(problem="Connection refused"), ["no broker has answered: Connection refused"]),
        (Topic(False), ["t does not exist, or this user may not see it; make it"]),
        (Topic(True, "Leader not available", 12, 0, 3), ["t: Leader not available"]),
        (Topic(True, "", 12, 1, 3), ["1 of 12 partitions of t has no leader"]),
        (Topic(True, "", 12, 5, 3), ["5 of 12 partitions of t have no leader"]),
        (Topic(True, "", 12, 0, 1, SOUND), ["t has one replica"]),
        (Topic(True, "", 12, 0, 3, SOUND | {"min.insync.replicas": "1"}), ["min.insync.replicas 1"]),
        # With one replica there is nothing to add.
        (Topic(True, "", 12, 0, 1, SOUND | {"min.insync.replicas": "1"}), ["t has one replica"]),
        (Topic(True, "", 12, 0, 3, SOUND | {"cleanup.policy": "compact,delete"}), ["t is compacted"]),
        (
            Topic(True, "", 2, 1, 1, {"cleanup.policy": "compact"}),
            ["1 of 2 partitions of t has no leader", "t has one replica", "t is compacted"],
        ),
    ],
)
def test_what_is_wrong_with_a_topic_is_told(topic: Topic, said: list[str]) -> None:
    found = [*topic.findings("t", is_made=False)]
    assert len(found) == len(said), found
    assert all(part in line for part, line in zip(said, found, strict=True)), found


def test_of_a_topic_that_is_to_be_made_it_is_told_that_it_could_not_be() -> None:
    (finding,) = Topic(False, "no right").findings("t", is_made=True)
    assert "it could not be made: no right" in finding


@pytest.mark.parametrize(
    ("settings", "most"), [(SOUND, 1_048_588), (None, None), ({"max.message.bytes": "many"}, None)]
)
def test_the_largest_message_is_the_topics_where_it_is_known(settings: dict[str, str] | None, most: int | None) -> None:
    assert Topic(True, settings=settings).most_bytes() == most
