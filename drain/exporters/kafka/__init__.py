"""The exporter of kind "kafka": a batch is one message, and an attempt ends with its delivery report."""
