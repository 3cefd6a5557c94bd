"""What the tests do without a mutant: which lines each test runs, and for how long."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import attrs
import coverage

MOST_SECONDS = 60.0
"""Of tests that one mutant is tried on, by their time without it."""

_CAME_TO_ITS_END = (0, 1)
"""What pytest returns when all tests were run, whether they passed or not."""

_OTHER_BACKEND = re.compile(r"\[[^\]]*(sandbox|cluster|redis62|path|sentinel|acl)")
_ABOUT_THE_TEXT = (
    "unit/test_lua.py",
    "unit/test_scripts.py",
    "unit/test_architecture.py",
    "unit/test_examples.py",
    "integration/test_demo.py",
)
"""Tests that read the source instead of running it, or that run all of it for long."""

_BROAD = ("tests/unit/", "tests/contract/", "tests/registry/", "tests/workers/")
"""Where to look for what a module that no test runs a line of changes."""


@attrs.frozen
class Baseline:
    """The tests, by the lines that they run.

    Attributes:
        data: Coverage with a context for each test.
        seconds: That each test took.
        root: Of the copy that was measured.
    """

    data: coverage.CoverageData
    seconds: dict[str, float]
    root: Path

    def tests_of(self, path: str, line: int) -> list[str]:
        """Return the tests that run a line, the quickest first.

        For a line that runs at import, a default or a constant, those that run any of its file.
        """
        contexts = self.data.contexts_by_lineno(str(self.root / path))
        of_file = [context for some in contexts.values() for context in some]
        return self._named(contexts.get(line, [])) or self._named(of_file) or self.broad()

    def tests_of_all(self, places: list[tuple[str, int]], files: set[str]) -> list[str]:
        """Return the tests that run any of some lines, or are in some files, the quickest first."""
        chosen = {test for place in places for test in self.tests_of(*place)}
        return self._chosen(chosen | {test for test in self.seconds if _file_of(test) in files})

    def broad(self) -> list[str]:
        """Return tests of everything, the quickest first."""
        return self._chosen({test for test in self.seconds if test.startswith(_BROAD)})

    def _named(self, contexts: list[str]) -> list[str]:
        return self._chosen({context.partition("|")[0] for context in contexts} - {""})

    def _chosen(self, tests: set[str]) -> list[str]:
        fitting = [
            test
            for test in tests
            if test in self.seconds
            and not any(name in test for name in _ABOUT_THE_TEXT)
            and "\n" not in test
        ]
        quick = [test for test in fitting if not _OTHER_BACKEND.search(test)]
        chosen: list[str] = []
        total = 0.0
        for test in sorted(quick or fitting, key=self.seconds.__getitem__):
            total += self.seconds[test]
            if total > MOST_SECONDS and chosen:
                break
            chosen.append(test)
        return chosen


def _file_of(test: str) -> str:
    return test.partition("::")[0]


def measure(root: Path, *, jobs: int) -> Baseline:
    """Run all tests once in the copy at `root`; those that fail try no mutant.

    Raises:
        RuntimeError: The run did not come to its end.
    """
    data_file, durations = root / ".coverage", root / "durations.json"
    if not durations.exists():
        command = [sys.executable, "-m", "pytest", "-q", "-p", "tests.mutation.recorder"]
        command += ["-n", str(jobs), "--dist", "worksteal", "--cov", "--cov-context=test"]
        command += ["--cov-report=", "--cov-fail-under=0"]
        environment = os.environ | {"PYTHONPATH": str(root), "MUTATION_DURATIONS": str(durations)}
        status = subprocess.run(command, cwd=root, env=environment, check=False).returncode
        if status not in _CAME_TO_ITS_END:
            raise RuntimeError(f"pytest ended with status {status}")
    data = coverage.CoverageData(str(data_file))
    data.read()
    return Baseline(data, json.loads(durations.read_text("utf-8")), root)
