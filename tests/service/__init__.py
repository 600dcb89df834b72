"""The drain as a service: exporters against real and misbehaving backends, delivery, operation."""
