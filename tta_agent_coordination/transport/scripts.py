"""The Lua files, made into scripts: what a header declares becomes what the code can use.

A header line ``KEYS a b`` becomes ``local k_a, k_b = KEYS[1], KEYS[2]``, and ``ARGV x:number``
becomes ``local x = tonumber(ARGV[1])``; files named by ``INCLUDE`` follow. So a header cannot
say anything that the code does not do.
"""

from __future__ import annotations

import hashlib
import re
from importlib import resources

import attrs

_HEADER = re.compile(r"^-- (KEYS|ARGV|INCLUDE)\s+(.*)$", re.MULTILINE)
_FOLDER = resources.files("tta_agent_coordination") / "lua"


@attrs.frozen(eq=False)  # there is one of each
class Script:
    """One move, as the server knows it.

    Attributes:
        name: Of the move and of its file.
        keys: Names of the keys it declares, in order.
        arguments: Names of its fixed arguments, in order.
        source: The whole text.
        sha: What EVALSHA calls it by.
    """

    name: str
    keys: tuple[str, ...]
    arguments: tuple[str, ...]
    source: str
    sha: str


def load(name: str) -> Script:
    """Read ``lua/<name>.lua`` and make a script of it."""
    text = (_FOLDER / f"{name}.lua").read_text("utf-8")
    header = {kind: words.split() for kind, words in _HEADER.findall(text)}
    keys = tuple(header["KEYS"])
    # "then" begins what is repeated; the code reads that from ARGV itself.
    fixed = " ".join(header["ARGV"]).partition("then")[0].split()
    parts = [_bind_keys(keys), *_bind_arguments(fixed)]
    parts += [
        (_FOLDER / "lib" / f"{part}.lua").read_text("utf-8") for part in header.get("INCLUDE", ())
    ]
    source = "\n".join([*parts, text])
    arguments = tuple(argument.partition(":")[0] for argument in fixed)
    return Script(name, keys, arguments, source, hashlib.sha1(source.encode()).hexdigest())  # noqa: S324 - EVALSHA's


def _bind_keys(keys: tuple[str, ...]) -> str:
    names = ", ".join(f"k_{key}" for key in keys)
    return f"local {names} = {', '.join(f'KEYS[{i + 1}]' for i in range(len(keys)))}"


def _bind_arguments(arguments: list[str]) -> list[str]:
    lines: list[str] = []
    for position, argument in enumerate(arguments, start=1):
        name, _, kind = argument.partition(":")
        value = f"ARGV[{position}]"
        lines.append(f"local {name} = {f'tonumber({value})' if kind == 'number' else value}")
    return lines


SEND = load("send")
SEND_MANY = load("send_many")
CLAIM = load("claim")
ACK = load("ack")
EXCHANGE = load("exchange")
NACK = load("nack")
RELEASE = load("release")
EXTEND = load("extend")
RECOVER = load("recover")
STATS = load("stats")
PURGE = load("purge")
DEAD_LIST = load("dead_list")
DEAD_REPLAY = load("dead_replay")
DEAD_PURGE = load("dead_purge")
WITHDRAW = load("withdraw")
TOUCH = load("touch")
FORGET = load("forget")
AGENTS_REGISTER = load("agents_register")
AGENTS_BEAT = load("agents_beat")
AGENTS_REMOVE = load("agents_remove")
MIGRATE = load("migrate")
MIGRATE_LIST = load("migrate_list")
MIGRATE_BACK = load("migrate_back")
CIRCUIT_ADMIT = load("circuit_admit")
CIRCUIT_SETTLE = load("circuit_settle")
CIRCUIT_RENEW = load("circuit_renew")
CIRCUIT_READ = load("circuit_read")
CIRCUIT_SET = load("circuit_set")
