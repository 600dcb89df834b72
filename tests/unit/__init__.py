"""One part at a time, without a ring and without a drain."""
