"""The examples run, and the README and the docs show what is in them."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
SHOWN = (
    ("README.md", "quickstart.py", "readme"),
    ("docs/guarantees.md", "idempotent_handler.py", "handler"),
)

RUN_TIME = 60.0
"""Seconds that an example may take, the start of its server included."""


def _region(example: str, name: str) -> str:
    text = (ROOT / "examples" / example).read_text("utf-8")
    found = re.search(rf"^# \[{name}\]\n(.*?)^# \[/{name}\]$", text, re.MULTILINE | re.DOTALL)
    assert found is not None, f"{example} marks no region [{name}]"
    return found[1].strip()


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


@pytest.mark.parametrize(("page", "example", "region"), SHOWN)
def test_the_page_shows_the_code_of_the_example(page: str, example: str, region: str) -> None:
    assert _region(example, region) in _python_blocks(page)


def test_no_page_shows_python_that_is_not_run() -> None:
    run = {_region(example, region) for _, example, region in SHOWN}
    pages = ["README.md", *(f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md"))]

    shown = {block for page in pages for block in _python_blocks(page)}

    assert shown == run
