"""The command `ringbuf`: tools to look at rings with, none of which disturbs a producer or a drain."""
