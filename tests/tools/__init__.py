"""The command `ringbuf`: its subcommands, alone and beside producers and a drain."""
