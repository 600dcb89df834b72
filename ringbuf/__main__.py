"""`python -m ringbuf` is the command `ringbuf`."""

from ringbuf.commands import tools

if __name__ == "__main__":
    tools()
