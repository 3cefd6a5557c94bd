"""The examples run, and the README and the docs show what is in them."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLES = [
    file
    for file in sorted((ROOT / "examples").glob("*.py"))
    if not file.name.startswith("test_")  # tests/testing runs those
]
RUN_TIME = 60.0
"""Seconds that an example may take, the start of its server included."""


_REGION = re.compile(r"^# \[(\w+)\]\n(.*?)^# \[/\1\]$", re.MULTILINE | re.DOTALL)


def _regions() -> set[str]:
    """The parts of the examples that are marked with ``# [name]`` and ``# [/name]``."""
    files = (ROOT / "examples").rglob("*.py")
    texts = [file.read_text("utf-8") for file in files]
    return {region[1].strip() for text in texts for region in _REGION.findall(text)}


def _python_blocks(page: str) -> list[str]:
    text = (ROOT / page).read_text("utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [block.strip() for block in blocks]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_the_example_runs_without_a_warning(example: Path, tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-W", "error", example],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=RUN_TIME,
        check=False,
    )

    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout, "an example shows something"


def test_the_pages_show_code_of_the_examples_and_no_other() -> None:
    pages = ["README.md", *(f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md"))]

    shown = {block for page in pages for block in _python_blocks(page)}

    assert shown == _regions()
