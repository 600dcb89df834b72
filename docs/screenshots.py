"""Makes the pictures of terminals in docs/images/ anew: `.venv/bin/python docs/screenshots.py`, half a minute.

Each is what a command prints on a terminal of 100 columns, in a scene of its own: the demo's processes at work, a drain
beside them, and a receiver that takes what it is sent. Nothing of it is left behind but the pictures.

There is none of the Grafana dashboard: neither Debian nor PyPI has Grafana. The picture of the report is a browser's:
`chromium --headless --screenshot` of the page that `ringbuf report` makes.
"""

from __future__ import annotations

import argparse
import fcntl
import io
import json
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import time
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rich.console import Console
from rich.terminal_theme import TerminalTheme
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

_DOCS: Final = Path(__file__).parent
_BIN: Final = Path(sys.executable).parent
_COLUMNS: Final = 100
_LINES: Final = 50
_HOME: Final = "\f"
_WAIT_SECONDS: Final = 60.0
_WORK_SECONDS: Final = 3.0
_TOP_SECONDS: Final = 8.0

# Every colour has a contrast of at least 4.5 to the ground, which the picture brings along: it is read the same on a
# light page and on a dark one.
_THEME: Final = TerminalTheme(
    (30, 32, 38),
    (222, 224, 228),
    [
        *((120, 124, 134), (255, 123, 123), (126, 211, 133), (240, 200, 110)),
        *((122, 178, 255), (220, 150, 230), (110, 210, 215), (222, 224, 228)),
    ],
    [
        *((150, 154, 164), (255, 150, 150), (150, 230, 155), (250, 215, 135)),
        *((150, 195, 255), (235, 175, 240), (140, 230, 235), (255, 255, 255)),
    ],
)
# rich's own has a font from elsewhere: nothing in these pages is fetched.
_FORMAT: Final = """\
<svg class="rich-terminal" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<!-- made by docs/screenshots.py -->
<style>
.{unique_id}-matrix {{ font-family: ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace;
  font-size: {char_height}px; line-height: {line_height}px; }}
.{unique_id}-title {{ font-size: 18px; font-weight: bold; font-family: sans-serif; }}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}" />
</clipPath>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""


def main() -> int:
    """Make all pictures."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--to", type=Path, default=_DOCS / "images", help="the folder (%(default)s)")
    folder: Path = parser.parse_args().to
    folder.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # an exception runs the clean-up
    with ExitStack() as cleanup:
        scratch = Path(cleanup.enter_context(tempfile.TemporaryDirectory(prefix="ringbuf-")))
        ring_dir = Path(cleanup.enter_context(tempfile.TemporaryDirectory(prefix="obs-demo-", dir="/dev/shm")))
        environment = _environment(ring_dir, scratch)
        _picture(folder / "demo.svg", ["make", "demo"], _demo(environment, scratch))
        command = ["python", str(_DOCS / "examples" / "one_percent.py"), "--rate", "1000000", "--seconds", "6"]
        _picture(folder / "one-percent.svg", command, _printed([sys.executable, *command[1:]], environment, scratch))
        for name, command in (("ringbuf-help", ["ringbuf", "--help"]), ("drain-help", ["ringbuf-drain", "--help"])):
            _picture(folder / f"{name}.svg", command, _printed(command, environment, scratch))
        with _receiver() as endpoint:
            command = ["ringbuf-drain", "--endpoint", endpoint, "check"]
            _picture(folder / "drain-check.svg", command, _printed(command, environment, scratch))
        with _drain(environment, scratch) as spans, _workload(environment, scratch):
            time.sleep(_WORK_SECONDS)
            command = ["ringbuf", "list"]
            _picture(folder / "ringbuf-list.svg", command, _printed(command, environment, scratch))
            command = ["ringbuf", "top", "--interval", "1"]
            screens = _printed(command, environment, scratch, seconds=_TOP_SECONDS)
            _picture(folder / "ringbuf-top.svg", command[:2], screens.split(_HOME)[-1])
            command = ["ringbuf", "trace", _trace_of(spans), spans.name]
            _picture(folder / "ringbuf-trace.svg", command, _printed(command, environment, scratch))
    return 0


def _environment(ring_dir: Path, scratch: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("RINGBUF_", "OTEL_"))}
    return {
        **kept,
        "PATH": f"{_BIN}:{kept['PATH']}",
        "RINGBUF_DIR": str(ring_dir),
        "TMPDIR": str(scratch),
        "XDG_STATE_HOME": str(scratch / "state"),
        "TERM": "xterm-256color",
        "COLORTERM": "truecolor",
    }


def _demo(environment: dict[str, str], scratch: Path) -> str:
    """Return the end of what the demo prints, as much as fits a screen; its bar of progress is gone by then."""
    command = [sys.executable, str(_DOCS / "examples" / "demo.py"), "--seconds", "3"]
    lines = _printed(command, environment, scratch).rstrip().splitlines()
    return "\n".join([line for line in lines if "━" not in line][-_LINES:])


def _printed(
    command: Sequence[str], environment: dict[str, str], folder: Path, *, seconds: float = _WAIT_SECONDS
) -> str:
    """Return what a command writes to a terminal until it ends, or a pressed q ends it.

    Where it moves the cursor to the top, a form feed stands.
    """
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", _LINES, _COLUMNS, 0, 0))
    with subprocess.Popen(  # noqa: S603 - our own programs
        command, env=environment, cwd=folder, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
    ) as process:
        os.close(theirs)
        # Not Ctrl-C: what is started in the background may have been told to take no notice of it.
        quitting = threading.Timer(seconds, os.write, [ours, b"q"])
        quitting.start()
        written = bytearray()
        try:
            while True:
                try:
                    written += os.read(ours, 1 << 16)
                except OSError:  # the other end is closed
                    break
        except BaseException:  # it must not work on in a folder that goes
            process.terminate()
            process.wait(_WAIT_SECONDS)
            raise
        finally:
            quitting.cancel()
        os.close(ours)
    if process.returncode not in (0, 1):
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}:\n{written.decode()}")
    text = written.decode().replace("\r\n", "\n").replace("\x1b[H", _HOME)
    return re.sub(r"\x1b\[\??\d*[A-GJKhl]|\r", "", text)


def _picture(path: Path, command: Sequence[str], text: str) -> None:
    lines = [line.rstrip() for line in text.strip("\n").splitlines()]
    while lines and not lines[-1]:
        lines.pop()
    if len(lines) > _LINES:
        lines = [*lines[: _LINES - 1], "…"]
    console = Console(record=True, width=_COLUMNS, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    console.print(Text.from_ansi("\n".join(lines)))
    title = " ".join(Path(word).name if word.startswith("/") else word for word in command)
    svg = console.export_svg(title=title, theme=_THEME, code_format=_FORMAT, unique_id=path.stem)
    path.write_text(svg, encoding="utf-8")
    print(path)


@contextmanager
def _drain(environment: dict[str, str], scratch: Path) -> Iterator[Path]:
    """Let a drain write spans to the file that is yielded."""
    spans = scratch / "spans.jsonl"
    command = ["ringbuf-drain", "--output", str(spans), "--state-dir", "off", "--listen", "off"]
    with _running(command, environment, scratch):
        _wait_for((Path(environment["RINGBUF_DIR"]) / "doorbell").exists)
        yield spans


@contextmanager
def _workload(environment: dict[str, str], scratch: Path) -> Iterator[None]:
    command = [sys.executable, str(_DOCS / "examples" / "workload.py"), "--pause", "0.0005"]
    rings = Path(environment["RINGBUF_DIR"])
    with _running(command, environment, scratch):
        _wait_for(lambda: len(list(rings.glob("*.ring"))) >= 4)  # noqa: PLR2004 - memory, front, storage, GPU
        yield


@contextmanager
def _running(command: Sequence[str], environment: dict[str, str], folder: Path) -> Iterator[None]:
    """Run a program in the background; end it in good order."""
    quiet = subprocess.DEVNULL
    with subprocess.Popen(command, env=environment, cwd=folder, stdin=quiet, stdout=quiet, stderr=quiet) as process:  # noqa: S603 - our own programs
        try:
            yield
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(_WAIT_SECONDS)


@contextmanager
def _receiver() -> Iterator[str]:
    """Yield the URL of a backend that takes what it is sent."""

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Receiver) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def _trace_of(spans: Path) -> str:
    """Return the beginning of the id of a trace that crosses processes."""
    found: list[str] = []

    def is_there() -> bool:
        for line in spans.read_text(encoding="utf-8").splitlines() if spans.exists() else ():
            try:
                document = json.loads(line)
            except ValueError:  # the end of a file that is being written
                continue
            for resource in document["resourceSpans"]:
                for span in (span for scope in resource["scopeSpans"] for span in scope["spans"]):
                    if "fbbu_flush" in json.dumps(span):
                        found.append(span["traceId"])
                        return True
        return False

    _wait_for(is_there)
    time.sleep(1)  # the spans around it end a little later
    return found[0][:8]


def _wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + _WAIT_SECONDS
    while not condition():
        if time.monotonic() >= end:
            raise SystemExit("the scene did not come to be")
        time.sleep(0.05)


if __name__ == "__main__":
    sys.exit(main())
