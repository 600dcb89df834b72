"""The README's Python runs as it stands."""

from __future__ import annotations

import re
from pathlib import Path

from tests.python import run

README = Path(__file__).parents[2] / "README.md"


def test_the_examples_of_the_readme_run(ring_dir: Path) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", README.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    assert len(blocks) == 2
    code = "import os\nos.environ['RINGBUF_DIR'] = sys.argv[1]\n" + "\n".join(blocks)
    # What the examples promise: two spans of the data plane, one of the vocabulary of one's own.
    code += "\nassert ringbuf.get_emitter().stats().published == 2\nassert emitter.stats().published == 1\n"
    done = run(code, ring_dir)
    assert done.returncode == 0, done.stderr
