"""Trying a mutant: the tests that run its line, in a copy of the tree that has it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from enum import StrEnum
from pathlib import Path

from tests.mutation.mutant import Mutant

TIME_LIMIT = 150.0
"""Seconds after which a mutant that hangs the tests counts as noticed."""


class Verdict(StrEnum):
    """What came of it."""

    NOTICED = "noticed"
    TIMEOUT = "timeout"
    SURVIVED = "survived"


def copy_tree(source: Path, target: Path) -> Path:
    """Copy the files that git knows, or would, into `target`."""
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=source, check=True, capture_output=True, text=True)
    for name in names.stdout.splitlines():
        if (source / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source / name, target / name)
    subprocess.run(["git", "init", "-q"], cwd=target, check=True)
    return target


def tried(mutant: Mutant, tests: list[str], root: Path) -> Verdict:
    """Run tests against a mutant in the copy at `root`, which is as before afterwards."""
    file = root / mutant.path
    original = file.read_text("utf-8")
    file.write_text(mutant.source, "utf-8")
    try:
        return _verdict(tests, root)
    finally:
        file.write_text(original, "utf-8")


def _verdict(tests: list[str], root: Path) -> Verdict:
    listed = root / "chosen-tests.txt"
    listed.write_text("\n".join(tests), "utf-8")
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", f"@{listed}"]
    command += ["-p", "no:randomly", "-o", "timeout=30", "--no-header", "--tb=no"]
    process = subprocess.Popen(
        command,
        cwd=root,
        env=os.environ | {"PYTHONPATH": str(root), "PYTHONDONTWRITEBYTECODE": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        status = process.wait(TIME_LIMIT)
    except subprocess.TimeoutExpired:
        return Verdict.TIMEOUT
    finally:
        _end_group(process)
    return Verdict.SURVIVED if status == 0 else Verdict.NOTICED


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """End what the mutant's tests may have left running: the session is theirs alone."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    process.wait()
