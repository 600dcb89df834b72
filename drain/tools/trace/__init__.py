"""The command `ringbuf trace`."""
