"""The fenced blocks of the README and of the pages: what they say to type, and what they show."""

import re
import shlex
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import attrs
from django.core import management

from tta_agent_coordination import cli

ROOT = Path(__file__).parents[2]
PAGES = ("README.md", *sorted(f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md")))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))

OTHERS = {
    *(".", "cat", "cd", "curl", "echo", "exit", "export", "grep", "kill", "mkdir"),
    *("gunicorn", "pytest", "redis-cli"),
}
"""Commands of the shell and of others, whose arguments are not looked at."""

PROMPT = "$ "
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_MASKS = (
    (r"[0-9a-f]{32}", "ID"),
    (r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ", "TIME"),
    (r"[\w.-]+:\d\d+\b", "HOST:PID"),
    (r"\bprocess \d+", "process PID"),
    (r"\b\d+\.\d s\b", "SECONDS"),
    (r"\battempt \d+", "attempt N"),  # a machine that stands still can take one more
    (r"\s+", " "),  # columns are as wide as what they hold
)


@attrs.frozen
class Block:
    """A fenced block.

    Attributes:
        page: Where it is, below the root of the repository.
        language: What it is labeled with.
        text: What it holds, without the fences.
    """

    page: str
    language: str
    text: str

    @property
    def name(self) -> str:
        """The page and the first line."""
        return f"{self.page}: {self.text.splitlines()[0]}"

    @property
    def commands(self) -> list[str]:
        """The lines that are to be typed."""
        lines = self.text.splitlines()
        if self.language == "sh":
            return lines
        prompts = [line for line in lines if line.startswith(PROMPT)]
        is_session = self.language == "console"
        return [line.removeprefix(PROMPT) for line in prompts] if is_session else []

    @property
    def output(self) -> list[str]:
        """The lines that a program prints."""
        if self.language not in {"console", "text"}:
            return []
        return [line for line in self.text.splitlines() if not line.startswith(PROMPT)]

    @property
    def session(self) -> list[tuple[str, list[str]]]:
        """What is to be typed, and what is shown of it then."""
        typed = self.text.split(f"\n{PROMPT}")
        return [(one.removeprefix(PROMPT), shown) for one, *shown in map(str.splitlines, typed)]


def blocks() -> list[Block]:
    """Every fenced block, page by page."""
    found: list[Block] = []
    for page in PAGES:
        text = (ROOT / page).read_text("utf-8")
        here = [Block(page, language, inside) for language, inside in _BLOCK.findall(text)]
        assert len(re.findall(r"^\s*(```|~~~)", text, re.MULTILINE)) == 2 * len(here), page
        found += here
    return found


def block(name: str) -> Block:
    """The block of that name."""
    (found,) = (one for one in blocks() if one.name == name)
    return found


def is_shown_by(lines: list[str], printed: str) -> bool:
    """Whether a program printed each of these lines: in any order, for threads take turns."""
    return Counter(map(masked, lines)) <= Counter(map(masked, printed.splitlines()))


def masked(line: str) -> str:
    """A line without what is different each time."""
    for pattern, name in _MASKS:
        line = re.sub(pattern, name, line)
    return line.strip()


def commands_in(line: str) -> Iterator[list[str]]:
    """The commands of a line of a shell, in words; without those files that output goes to."""
    words = shlex.shlex(line, posix=True, punctuation_chars=True)
    words.whitespace_split = True
    command: list[str] = []
    to_file = False
    for word in words:
        if not word.strip("();<>|&{}"):
            if command:
                yield command
            command, to_file = [], word == ">"
        elif to_file:
            to_file = False
        else:
            command.append(word)
    if command:
        yield command


def check(command: list[str]) -> None:
    """Fail if a command could not be typed so."""
    first, *words = command
    if first in CHECKS:
        CHECKS[first](words)
    else:
        assert first in OTHERS, f"{command}: nothing is known of {first}"


def _check_ours(words: list[str]) -> None:
    cli.parser().parse_args(words)


def _check_uv(words: list[str]) -> None:
    assert words[0] == "run", words
    rest = words[1:]
    while rest[0].startswith("--"):
        option, value, *rest = rest
        assert option in {"--group", "--with"}, option
        assert option != "--group" or value in PROJECT["dependency-groups"], value
    check(rest)


def _check_pip(words: list[str]) -> None:
    verb, what = words
    known = re.fullmatch(r"uv|(?:tta-agent-coordination|/path/to/checkout)\[(\w+)\]", what)
    assert verb == "install"
    assert known, what
    assert known[1] in {None, *PROJECT["project"]["optional-dependencies"]}, what


def _check_python(words: list[str]) -> None:
    if words[0] == "-m":
        _check_module(*words[1:])
    else:
        assert list((ROOT / "examples").rglob(Path(words[0]).name)), f"no example {words[0]}"
    if words[0] == "manage.py":
        folders = [ROOT / "tta_agent_coordination" / "django" / "management", *management.__path__]
        assert any(words[1] in management.find_commands(str(one)) for one in folders), words


def _check_module(name: str, *words: str) -> None:
    """Fail if there is no such module, or one of ours does not know an option."""
    if name in sys.stdlib_module_names:
        return
    spec = find_spec(name)
    assert spec is not None, f"no module {name}"
    folder = Path(*spec.submodule_search_locations or [str(spec.origin)])
    files = folder.glob("*.py") if folder.is_dir() else [folder]
    source = "".join(file.read_text("utf-8") for file in files)
    unknown = [word for word in words if word.startswith("--") and f'"{word}"' not in source]
    assert not unknown, f"{name} knows no {unknown}"


def _check_flask(words: list[str]) -> None:
    source = (ROOT / "tta_agent_coordination" / "flask.py").read_text("utf-8")
    assert f'"{words[2]}"' in source, words


CHECKS = {
    "flask": _check_flask,
    "pip": _check_pip,
    "python": _check_python,
    "python3": _check_python,
    "tta-coordination": _check_ours,
    "uv": _check_uv,
}
