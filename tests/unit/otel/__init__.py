"""OpenTelemetry's spans and the ring: the processor, the exporter, the context that both kinds of span share."""
