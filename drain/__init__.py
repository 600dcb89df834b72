"""The service that takes spans out of the rings and delivers them as OTLP; part of ringbuf-spans."""
