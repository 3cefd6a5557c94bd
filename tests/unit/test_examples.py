"""The examples run, and the README and the docs show what is in them and what they print."""

import re
import subprocess
import sys
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

from tests.support.code_blocks import ROOT, Block, blocks, check, commands_in, is_shown_by

EXAMPLES = [
    file
    for file in sorted((ROOT / "examples").glob("*.py"))
    if not file.name.startswith("test_")  # tests/testing runs those
]
RUN_TIME = 60.0
"""Seconds that an example may take, the start of its server included."""

# The blocks of the pages, by the page and the first line. Each is code of an example, a drawing,
# commands that could be typed so, or stands here.

PRINTED = {
    "discovery": {
        "docs/discovery.md: translator:1 alive 1.0.0",
        "docs/discovery.md: sleeper:1 registered",
    },
    "fencing": {"docs/leases.md: second writes: True"},
    "life_of_a_message": {"docs/life-of-a-message.md: send *"},
    "long_handlers": {"docs/long-handlers.md: 4 parts are there at attempt 1"},
    "request_and_reply": {
        "docs/requests.md: 98.6 °F, says converter",
        "docs/requests.md: to question question-mild: *",
    },
    "retries": {"docs/retries.md: label-empty: *"},
    "sending": {"docs/sending.md: again: True"},
    "two_agents": {"README.md: counted 6 words"},
}
"""What an example prints."""

TESTED = {
    "doctor/test_docs.py": {"docs/security.md: ACL SETUSER *"},
    "glue/test_applications.py": {"docs/django.md: $ curl *", "docs/flask.md: $ curl *"},
    "integration/test_pages.py": {
        "README.md: $ tta-coordination agents --once",
        "docs/cli.md: $ tta-coordination inbox",
        "docs/cli.md: $ tta-coordination inbox analyst",
        "docs/cli.md: $ tta-coordination dead *",
        "docs/cli.md: $ tta-coordination recover",
        "docs/cli.md: $ tta-coordination send *",
    },
    "integration/test_tutorial.py": {"docs/tutorial.md: *"},
    "testing/test_plugin.py": {"docs/testing-your-agents.md: pytest_plugins = *"},
}
"""What a test runs, or compares with what is printed."""

NEITHER = {
    "of another run of the demo each line is another; tests/integration/test_demo.py runs it": {
        "README.md: 1798 requests *"
    },
    "it takes five seconds; tests/integration/test_cli.py has the same with a shorter deadline": {
        "docs/cli.md: $ tta-coordination inbox analyst --url *"
    },
    "one of two agents is dead, for once; the tables of the README and the tutorial are compared": {
        "docs/cli.md: $ tta-coordination agents --once"
    },
    "an old application with a thousand messages; tests/migrate/test_command.py has a small one": {
        "docs/cli.md: $ tta-coordination migrate *",
        "docs/migration.md: $ tta-coordination migrate *",
    },
    "a server that is set up badly, and a part of the rows; tests/doctor/test_docs.py has all": {
        "docs/doctor.md: $ tta-coordination doctor *"
    },
    "a line of the log of what goes wrong rarely; tests/forks and tests/workers make it so": {
        "docs/forking.md: the worker of greeter:1 was started before a fork *",
        "docs/long-handlers.md: message * was handled, but its lease had passed on: stale",
    },
    "a formula": {
        "docs/retries.md: min(backoff_base *",
        "docs/sizing.md: memory = *",
        "docs/sizing.md: threads = *",
        "docs/sizing.md: queue_size = *",
    },
    "an address, and a server with a certificate for it is needed": {
        "docs/security.md: rediss://agents:...@redis.example.com*"
    },
    "a part of a file for what starts and stops processes": {
        "docs/production.md: spec:",
        "docs/production.md: [[]Service]",
    },
}
"""What is neither run nor compared, under the reason."""

UNTAKEN = {
    ("from_lists", 'raise SystemExit(f"slow down: {result.error}")'): "10,000 messages wait",
    ("from_lists", "except OSError as error:"): "what it prints to is broken",
    ("long_handlers", 'raise RuntimeError(f"the computation ended with'): "the computation crashes",
    ("long_handlers", "return  # STALE"): "another consumer got the message meanwhile",
    ("request_and_reply", "if received is None:"): "no answer comes for ten seconds",
    ("retries", "if received is None:"): "no message comes for five seconds",
    ("retries", "except OSError as error:"): "what it prints to is broken",
    ("two_agents", "except RemoteAgentError as error:"): "the editor asks what is too long",
}
"""What the run of an example does not come to, and when it would."""

BLOCKS = blocks()
COMPARED = {name for names in [*PRINTED.values(), *TESTED.values()] for name in names}
LISTED = COMPARED.union(*NEITHER.values())


_REGION = re.compile(r"^# \[(\w+)\]\n(.*?)^# \[/\1\]$", re.MULTILINE | re.DOTALL)


def _regions() -> set[str]:
    """The parts of the examples that are marked with ``# [name]`` and ``# [/name]``."""
    files = (ROOT / "examples").rglob("*.py")
    texts = [file.read_text("utf-8") for file in files]
    return {region[1].strip() for text in texts for region in _REGION.findall(text)}


def _named(names: set[str]) -> list[Block]:
    return [one for one in BLOCKS if any(fnmatchcase(one.name, name) for name in names)]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_the_example_runs_without_a_warning_and_prints_what_is_shown(
    example: Path, tmp_path: Path
) -> None:
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
    for shown in _named(PRINTED.get(example.stem, set())):
        assert is_shown_by(shown.output, ended.stdout), f"{shown.name}\n\n{ended.stdout}"


def test_the_pages_show_code_of_the_examples_and_no_other() -> None:
    shown = {one.text.strip() for one in BLOCKS if one.language == "python"}
    tested = {one.text.strip() for one in _named(COMPARED) if one.language == "python"}

    assert shown == _regions() | tested


@pytest.mark.parametrize("block", [one for one in BLOCKS if one.commands], ids=lambda one: one.name)
def test_the_commands_of_the_pages_could_be_typed(block: Block) -> None:
    for line in block.commands:
        for command in commands_in(line):
            check(command)


def test_every_block_is_checked_or_has_a_reason_why_not() -> None:
    compared_elsewhere = {one.text for one in _named(COMPARED)}  # some are shown on two pages

    unknown = [
        one.name
        for one in BLOCKS
        if one.language not in {"python", "mermaid"}
        and (one.output or not one.commands)
        and one not in _named(LISTED)
        and one.text not in compared_elsewhere
    ]

    assert unknown == []


@pytest.mark.parametrize("name", sorted(LISTED))
def test_what_is_listed_is_there(name: str) -> None:
    assert _named({name})


@pytest.mark.parametrize(("example", "code"), UNTAKEN)
def test_what_is_not_come_to_is_there(example: str, code: str) -> None:
    assert code in (ROOT / "examples" / f"{example}.py").read_text("utf-8")


@pytest.mark.parametrize("file", TESTED)
def test_the_tests_that_are_named_are_there(file: str) -> None:
    assert (ROOT / "tests" / file).is_file()
