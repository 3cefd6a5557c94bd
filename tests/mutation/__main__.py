"""Mutation testing of the package, Python and Lua: ``python -m tests.mutation --help``."""

from __future__ import annotations

import argparse
import json
import random
import re
import sys
import tempfile
import tomllib
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from queue import SimpleQueue

from tests.mutation import lua_mutants, python_mutants
from tests.mutation.baseline import Baseline, measure
from tests.mutation.mutant import Maker, Mutant
from tests.mutation.trial import Verdict, copy_tree, tried

ROOT = Path(__file__).parents[2]
PACKAGE = "tta_agent_coordination"
EXCUSED = Path(__file__).with_name("excused.toml")
_NO_TESTS_OF_THEIR_OWN = ("__init__.py",)


def main() -> int:
    """Make mutants, try them, report; return 1 when the score is below what is asked."""
    options = _options()
    with tempfile.TemporaryDirectory() as scratch:
        home = options.work or Path(scratch)
        copies = [_copy(home / f"copy{i}") for i in range(options.jobs)]
        baseline = measure(_copy(home / "baseline"), jobs=options.jobs)
        chosen = _chosen(options)
        rows = _tried_before(options.json, chosen)
        left = [mutant for mutant in chosen if mutant.digest not in rows]
        for mutant, verdict in _try_all(left, baseline, copies):
            rows[mutant.digest] = row = _row(mutant, verdict)
            _keep(row, options.json)
    score = _report(list(rows.values()))
    return int(score < options.at_least)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    parser.add_argument("--only", default="", help="paths that match this regular expression")
    parser.add_argument("--sample", type=int, help="so many mutants of each language, at random")
    parser.add_argument("--seed", type=int, default=1, help="of the sample (default: 1)")
    parser.add_argument("--jobs", type=int, default=2, help="mutants tried at once (default: 2)")
    parser.add_argument("--at-least", type=float, default=90.0, help="score in percent")
    parser.add_argument(
        "--json",
        type=Path,
        help="file of verdicts, a line each; gone on with",
    )
    parser.add_argument("--work", type=Path, help="keep copies and baseline in this folder")
    return parser.parse_args()


def _copy(target: Path) -> Path:
    return target if target.exists() else copy_tree(ROOT, target)


def _chosen(options: argparse.Namespace) -> list[Mutant]:
    choice = random.Random(options.seed)
    chosen: list[Mutant] = []
    for suffix in (".py", ".lua"):
        makers = list(_makers(suffix, options.only, choice))
        if options.sample is not None and options.sample < len(makers):
            print(f"of {len(makers)} places ", end="")
            makers = choice.sample(makers, options.sample)
        mutants = [mutant for make in makers if (mutant := make()) is not None]
        print(f"{len(mutants)} mutants of {suffix} files", flush=True)
        chosen += mutants
    choice.shuffle(chosen)  # what is stopped half way is a sample
    return chosen


def _tried_before(file: Path | None, chosen: list[Mutant]) -> dict[str, dict[str, object]]:
    """Return the verdicts of an earlier run that was stopped, of those that are asked for."""
    if file is None or not file.exists():
        return {}
    rows = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
    wanted = {mutant.digest for mutant in chosen}
    return {row["digest"]: row for row in rows if row["digest"] in wanted}


def _keep(row: dict[str, object], file: Path | None) -> None:
    if file is not None:
        with file.open("a", encoding="utf-8") as lines:
            lines.write(json.dumps(row) + "\n")


def _makers(suffix: str, only: str, choice: random.Random) -> Iterator[Maker]:
    for file in sorted((ROOT / PACKAGE).rglob(f"*{suffix}")):
        path = file.relative_to(ROOT).as_posix()
        if file.name not in _NO_TESTS_OF_THEIR_OWN and re.search(only, path):
            source = file.read_text("utf-8")
            if suffix == ".lua":
                yield from (partial(_itself, each) for each in lua_mutants.mutants_of(path, source))
            else:
                yield from python_mutants.makers_of(path, source, choice)


def _itself(mutant: Mutant) -> Mutant:
    return mutant


def _try_all(
    mutants: list[Mutant], baseline: Baseline, copies: list[Path]
) -> Iterator[tuple[Mutant, Verdict]]:
    free: SimpleQueue[Path] = SimpleQueue()
    for copy in copies:
        free.put(copy)

    def one(mutant: Mutant) -> tuple[Mutant, Verdict]:
        copy = free.get()
        try:
            verdict = tried(mutant, _tests_of(mutant, baseline), copy)
        finally:
            free.put(copy)
        if verdict is Verdict.SURVIVED and _excuse(mutant) is None:
            print(mutant.diff((ROOT / mutant.path).read_text("utf-8")), flush=True)
        return mutant, verdict

    with ThreadPoolExecutor(len(copies)) as pool:
        yield from pool.map(one, mutants)


def _tests_of(mutant: Mutant, baseline: Baseline) -> list[str]:
    if not mutant.path.endswith(".lua"):
        return baseline.tests_of(mutant.path, mutant.line)
    scripts = _scripts_of(mutant)
    places = [place for name in scripts for place in _uses(name, PACKAGE)]
    files = {path for name in scripts for path, _ in _uses(name, "tests")}
    return baseline.tests_of_all(places, files)


def _scripts_of(mutant: Mutant) -> list[str]:
    """Names of the scripts that contain a file: itself, or those that include it."""
    file = Path(mutant.path)
    if file.parent.name != "lib":
        return [file.stem]
    scripts = (ROOT / PACKAGE / "lua").glob("*.lua")
    included = rf"^-- INCLUDE.*\b{file.stem}\b"
    return [
        script.stem
        for script in scripts
        if re.search(included, script.read_text("utf-8"), re.MULTILINE)
    ]


def _uses(script: str, folder: str) -> Iterator[tuple[str, int]]:
    """Yield the lines of Python in a folder that name a script."""
    name = re.compile(rf"\bscripts\.{script.upper()}\b")
    for file in sorted((ROOT / folder).rglob("*.py")):
        for number, line in enumerate(file.read_text("utf-8").splitlines(), start=1):
            if name.search(line):
                yield file.relative_to(ROOT).as_posix(), number


def _excuse(mutant: Mutant) -> str | None:
    """Why a mutant may survive; known by its line and kind, and its file unless it is any."""
    for entry in tomllib.loads(EXCUSED.read_text("utf-8")).get("excused", []):
        same_file = entry.get("path", mutant.path) == mutant.path
        same_place = same_file and entry["line"] == mutant.before
        if same_place and mutant.kind.startswith(entry.get("kind", "")):
            return entry["reason"]
    return None


def _row(mutant: Mutant, verdict: Verdict) -> dict[str, object]:
    excuse = _excuse(mutant) if verdict is Verdict.SURVIVED else None
    return {
        "digest": mutant.digest,
        "path": mutant.path,
        "line": mutant.line,
        "kind": mutant.kind,
        "before": mutant.before,
        "verdict": verdict.value if excuse is None else "excused",
        "reason": excuse,
    }


def _report(rows: list[dict[str, object]]) -> float:
    """Print a table by folder; return the share that was noticed, in percent."""
    counts: dict[str, Counter[str]] = {}
    for row in rows:
        folder = str(Path(str(row["path"])).parent)
        for name in (folder, "all"):
            counts.setdefault(name, Counter())[str(row["verdict"])] += 1
    print(f"{'':45} {'mutants':>8} {'noticed':>8} {'survived':>9} {'excused':>8} {'score':>7}")
    for name in sorted(counts, key=lambda name: (name == "all", name)):
        count = counts[name]
        noticed = count["noticed"] + count["timeout"]
        line = f"{name:45} {count.total():8} {noticed:8} {count['survived']:9}"
        print(f"{line} {count['excused']:8} {_score(count):6.1f}%")
    return _score(counts["all"]) if counts else 100.0


def _score(count: Counter[str]) -> float:
    judged = count.total() - count["excused"]
    return 100.0 * (judged - count["survived"]) / judged if judged else 100.0


if __name__ == "__main__":
    sys.exit(main())
