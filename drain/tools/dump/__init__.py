"""The command `ringbuf dump`."""
