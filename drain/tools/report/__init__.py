"""The command `ringbuf report`."""
