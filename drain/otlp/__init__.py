"""Records into OTLP, protobuf and JSON, and the readable code that both are checked against."""
