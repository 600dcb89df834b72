"""The command `ringbuf top`."""
