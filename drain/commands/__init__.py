"""What the subcommands of `ringbuf-drain` do; `drain/command.py` is its command line."""
