"""The README's Python runs as it stands."""

from __future__ import annotations

import re
from pathlib import Path

from tests.python import run

README = Path(__file__).parents[2] / "README.md"


def test_the_examples_of_the_readme_run(ring_dir: Path) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", README.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    assert len(blocks) == 1
    code = "import os\nos.environ['RINGBUF_DIR'] = sys.argv[1]\n" + blocks[0]
    code += "\nassert emitter.stats().published == 2\n"
    done = run(code, ring_dir)
    assert done.returncode == 0, done.stderr
