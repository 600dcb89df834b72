"""Brokers that speak Kafka, and a reader of what they have, for tests."""
