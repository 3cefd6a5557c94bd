"""What an application is configured with: checked as a whole, and never at the server."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import attrs

from tta_agent_coordination import checks
from tta_agent_coordination.coordinator.core import RedisMessageCoordinator
from tta_agent_coordination.errors import ConfigurationError
from tta_agent_coordination.keys import DEFAULT_KEY_PREFIX
from tta_agent_coordination.policy import CoordinatorOptions
from tta_agent_coordination.registry.core import RedisAgentRegistry
from tta_agent_coordination.registry.options import RegistryOptions

URL_VARIABLE = "TTA_COORDINATION_URL"
"""Environment variable that says where the server is, when the configuration does not."""
DEFAULT_URL = "redis://127.0.0.1:6379/0"
DEFAULT_READY_TIMEOUT = 1.0
"""Seconds that a server may take to answer before a process counts as not ready."""

_SHARED = ("url", "client", "key_prefix", "ready_timeout")

Made = TypeVar("Made", RedisMessageCoordinator, RedisAgentRegistry)


_COORDINATOR = frozenset(CoordinatorOptions.__annotations__)
_REGISTRY = frozenset(RegistryOptions.__annotations__)

KEYS = tuple(name.upper() for name in (*_SHARED, *sorted(_COORDINATOR | _REGISTRY)))
"""All that can be configured: the options of coordinator and registry, in capitals, and more."""

_SERVERS = ("URL", "CLIENT")
_OPTIONS = [key.lower() for key in KEYS if key not in _SERVERS]
# One that is an ordinary word is meant where an error begins with it.
_OPTION = re.compile(
    rf"^(?:{'|'.join(_OPTIONS)})\b|\b(?:{'|'.join(o for o in _OPTIONS if '_' in o)})\b"
)
_FROM_TEXT = "what comes from the environment is text: convert it with int() or float()"


@attrs.frozen
class Problem:
    """Something wrong with a configuration.

    Attributes:
        text: What, with the key as the user wrote it.
        hint: What to do about it; empty where the text says so.
    """

    text: str
    hint: str = ""


@attrs.frozen
class Settings:
    """The configuration of one application.

    Attributes:
        given: Values by key, as in `KEYS`.
        spell: Returns a key as the user wrote it, for errors.
    """

    given: Mapping[str, Any] = attrs.field(repr=False)  # a URL may hold a password
    spell: Callable[[str], str] = attrs.field(default=str, repr=False)

    def problems(self) -> list[Problem]:
        """Return what is wrong; nothing is connected for that."""
        unknown = [self._unknown(key) for key in self.given if key not in KEYS]
        return unknown or self._wrong()

    def check(self) -> None:
        """Raise the first problem.

        Raises:
            ConfigurationError: Something is wrong; the text says which key, and what to do.
        """
        for problem in self.problems():
            raise ConfigurationError(f"{problem.text}; {problem.hint}".removesuffix("; "))

    def make(self, kind: type[Made], **instead: object) -> Made:
        """Return a coordinator or a registry as configured; nothing is connected yet.

        Args:
            kind: Which of the two.
            **instead: Options that replace those configured.
        """
        known = _REGISTRY if kind is RedisAgentRegistry else _COORDINATOR
        options: dict[str, Any] = {
            key.lower(): value for key, value in self.given.items() if key.lower() in known
        } | instead
        prefix = self.key_prefix
        client = self.given.get("CLIENT")
        if client is None:
            url = self.given.get("URL") or os.environ.get(URL_VARIABLE) or DEFAULT_URL
            return kind.from_url(checks.instance_of("url", url, str), prefix, **options)
        return kind(client, prefix, **options)

    @property
    def key_prefix(self) -> str:
        """What every key begins with."""
        return self.given.get("KEY_PREFIX", DEFAULT_KEY_PREFIX)

    @property
    def ready_timeout(self) -> float:
        """Seconds that a server may take to answer a process that asks whether it is ready."""
        return self.given.get("READY_TIMEOUT", DEFAULT_READY_TIMEOUT)

    def _unknown(self, key: str) -> Problem:
        near = difflib.get_close_matches(str(key).upper(), KEYS, n=1)
        known = ", ".join(self.spell(name) for name in KEYS)
        return Problem(
            f"there is no setting {self.spell(key)}",
            f"did you mean {self.spell(near[0])}?" if near else f"the settings are {known}",
        )

    def _wrong(self) -> list[Problem]:
        found: list[Problem] = []
        if self.given.get("URL") and self.given.get("CLIENT") is not None:
            text = f"{self.spell('URL')} and {self.spell('CLIENT')} are both set"
            found.append(Problem(text, "keep one of them"))
        error = self._error()
        if error is None:
            return found
        alone = [problem for key in self.given if (problem := self._wrong_alone(key))]
        # What is left are two that do not fit together, and the URL that is not configured here.
        return [*found, *(alone or [self._told(error, URL_VARIABLE)])]

    def _error(self) -> Exception | None:
        """Return why nothing can be made as configured; nothing is connected for that."""
        try:
            _check_timeout(self.ready_timeout)
            self.make(RedisMessageCoordinator, strict=False)  # which would ask the server
            self.make(RedisAgentRegistry)
        except (ConfigurationError, TypeError, ValueError) as error:
            return error
        return None

    def _wrong_alone(self, key: str) -> Problem | None:
        """Return what is wrong with one value whatever the others are."""
        value = self.given[key]
        if key in _SERVERS:
            error = attrs.evolve(self, given={key: value})._error()
        else:
            error = attrs.evolve(self, given={"URL": DEFAULT_URL, key: value})._error()
            if isinstance(error, ConfigurationError):  # it does not fit the default of another
                return None
        return None if error is None else self._told(error, self.spell(key), value)

    def _told(self, error: Exception, culprit: str, value: object = None) -> Problem:
        """Tell of an error in the words of the configuration; `culprit` unless it names one."""
        named = _OPTION.sub(lambda option: self.spell(option[0].upper()), str(error))
        text = named if _OPTION.match(str(error)) else f"{culprit} is wrong: {named}"
        unread = isinstance(error, TypeError) and isinstance(value, str) and "number" in text
        return Problem(text, _FROM_TEXT if unread else "")


def _check_timeout(seconds: object) -> None:
    if checks.duration("ready_timeout", seconds) == 0:
        raise ValueError(f"ready_timeout must be more than 0 seconds, not {seconds}")
