"""Plays scenarios one after another, and finds out what came of each."""

from __future__ import annotations

import platform
import random
import secrets
import tempfile
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from importlib import metadata
from pathlib import Path

import attrs

from tta_agent_coordination import (
    AgentId,
    CoordinationError,
    MessageCoordinator,
    RedisMessageCoordinator,
    __version__,
)
from tta_agent_coordination.chaos.checker import End, of
from tta_agent_coordination.chaos.crew import Crew, microseconds
from tta_agent_coordination.chaos.figures import Counts, Judgment, count, judge
from tta_agent_coordination.chaos.history import FORK_MARK, Event, read_all
from tta_agent_coordination.chaos.raw_inbox import RawInbox, look
from tta_agent_coordination.chaos.scene import WORKERS, Scenario, Scene, nothing
from tta_agent_coordination.chaos.settings import INBOX, LEASE, PRODUCER, RETRY_ATTEMPTS, ChaosError
from tta_agent_coordination.chaos.stages import (
    GivenServer,
    OwnServer,
    Stage,
    address_of,
    through,
)
from tta_agent_coordination.keys import Keys
from tta_agent_coordination.proxy import FaultProxy
from tta_agent_coordination.transport.console import Console

CREW = ("produce", "produce", "consume", "consume", "serve", "serve")
RECOVERY_TIMEOUT = 20.0
"""Seconds after the faults in which every worker must answer; 2.12 says why it can take so long."""
PROMPT_TIMEOUT = 5.0
"""The same, where no reply was lost."""
DRAIN_TIMEOUT = 30.0
"""Seconds after that in which everything must be handled."""

_LOOK = 0.05
_A_PAGE = 1000
_LASTING = ("dead", "dead_records", "dead_dropped")
_FOR_EVER = -1
_ENOUGH = 200
_NUMBER = f"0123456789{FORK_MARK}"


@attrs.frozen
class Outcome:
    """What came of one scenario.

    Attributes:
        name: Of the scenario.
        about: What happened, for people.
        bound: What the server may lose, for people; empty: nothing.
        seconds: How long the faults lasted.
        faults: How many there were.
        counts: What the processes did.
        judgment: What is wrong with that.
        dead: Dead letters at the end; some are made on purpose.
        recovered: Seconds after the faults until every `AgentWorker` had answered.
        drained: Seconds after the faults until everything was handled.
        keys_kept: Keys that are left, without the prefix: dead letters, and what vanishes by
            itself; empty for a given server.
        keys_left: Keys that are left and should not be.
        failures: What else went wrong.
    """

    name: str
    about: str
    bound: str
    seconds: float
    faults: int
    counts: Counts
    judgment: Judgment
    dead: int
    recovered: float
    drained: float
    keys_kept: list[str]
    keys_left: list[str]
    failures: list[str]

    @property
    def is_good(self) -> bool:
        """Whether nothing was lost, nothing is unexplained, and nothing failed."""
        wrong = self.judgment.lost or self.judgment.unexplained
        return not (wrong or self.keys_left or self.failures)


@attrs.frozen
class Matrix:
    """What came of a whole run.

    Attributes:
        seed: What its dice began with.
        seconds: How long the faults were to last, all together.
        lease: Seconds of a lease.
        versions: Of what took part, by name.
        outcomes: Of each scenario.
        skipped: Names of those that the given server did not allow.
    """

    seed: int
    seconds: float
    lease: float
    versions: dict[str, str]
    outcomes: list[Outcome]
    skipped: list[str] = attrs.field(factory=list[str])

    @property
    def is_good(self) -> bool:
        """Whether all are."""
        return all(outcome.is_good for outcome in self.outcomes)


def fitting(scenario: Scenario, url: str | None) -> bool:
    """Whether a scenario can be played on the server at `url`; None: on one of our own."""
    if url is None:
        return True
    can_proxy = url.startswith(("redis://", "unix://"))
    return scenario.open_stage is None and (can_proxy or not scenario.proxied)


def play_all(
    scenarios: Sequence[Scenario],
    *,
    seconds: float,
    seed: int,
    url: str | None = None,
    keep: Path | None = None,
    told: Callable[[Outcome], None] = lambda _outcome: None,
) -> Matrix:
    """Play scenarios one after another.

    Args:
        scenarios: Which.
        seconds: How long the faults last, all together.
        seed: What the dice begin with.
        url: Of a server that stays as it is; None for servers of our own.
        keep: Where histories, logs and data of the servers are kept; None: nowhere.
        told: Is told each outcome as soon as it is there.

    Raises:
        CoordinationError: The server cannot be reached, or cannot be started.
    """
    chosen = [scenario for scenario in scenarios if fitting(scenario, url)]
    versions = {
        "tta-agent-coordination": __version__,
        "Python": platform.python_version(),
        "redis-py": metadata.version("redis"),
    }
    outcomes: list[Outcome] = []
    for scenario in chosen:
        dice = random.Random(f"{seed} {scenario.name}")
        with _folder(keep, scenario.name) as folder:
            outcome = _play(scenario, url, dice, seconds / len(chosen), versions, folder)
        outcomes.append(outcome)
        told(outcome)
    skipped = [scenario.name for scenario in scenarios if scenario not in chosen]
    return Matrix(seed, seconds, LEASE, versions, outcomes, skipped)


def _play(
    scenario: Scenario,
    url: str | None,
    dice: random.Random,
    seconds: float,
    versions: dict[str, str],
    folder: Path,
) -> Outcome:
    with ExitStack() as stack:
        stage = stack.enter_context(_open(scenario, url, folder))
        versions["server"] = _version(stage.console())
        proxy = None
        if scenario.proxied:
            proxy = stack.enter_context(FaultProxy(address_of(stage.url), record=False))
        reached = through(stage.url, proxy.port) if proxy else stage.url
        keys = Keys(f"tta-chaos-{secrets.token_hex(6)}")
        coordinator = stack.enter_context(RedisMessageCoordinator.from_url(stage.url, keys.prefix))
        stack.callback(_clear, coordinator)
        crew = stack.enter_context(
            Crew(reached, keys.prefix, folder, dice, replicas=scenario.replicas)
        )
        for role in CREW:
            crew.add(role, clock=dice.choice(scenario.clocks))
        crew.await_begin()
        scene = Scene(stage, crew, dice, seconds, proxy)
        return Play(scenario, scene, coordinator, keys, folder).play()


@contextmanager
def _folder(keep: Path | None, name: str) -> Generator[Path]:
    """Offer a private folder, which is removed unless it is to be kept.

    Raises:
        ChaosError: There is something of this name already.
    """
    if keep is None:
        with tempfile.TemporaryDirectory(prefix="tta-chaos-") as folder:
            yield Path(folder)
        return
    folder = keep / name
    try:
        folder.mkdir(mode=0o700, parents=True)
    except OSError as error:
        raise ChaosError(f"{folder} cannot be made: {error}") from error
    yield folder


def _open(scenario: Scenario, url: str | None, folder: Path) -> Stage:
    if scenario.open_stage is not None:
        return scenario.open_stage(folder)
    return GivenServer(url) if url else OwnServer(folder / "server")


def _version(console: Console) -> str:
    lines = console("INFO", "server").decode().splitlines()
    told = dict(line.split(":", 1) for line in lines if ":" in line)
    name = told.get("server_name", "redis")
    return f"{name} {told.get(f'{name}_version', told.get('redis_version', ''))}"


def _clear(coordinator: MessageCoordinator) -> None:
    with suppress(CoordinationError):
        coordinator.purge(INBOX)
        coordinator.purge_dead_letters(INBOX)


class Play:
    """One scenario from its first fault to the judgment."""

    def __init__(
        self,
        scenario: Scenario,
        scene: Scene,
        coordinator: MessageCoordinator,
        keys: Keys,
        folder: Path,
    ) -> None:
        """Be ready; the processes have begun."""
        self._scenario = scenario
        self._scene = scene
        self._coordinator = coordinator
        self._keys = keys
        self._folder = folder
        self._failures: list[str] = []

    def play(self) -> Outcome:
        """Make the faults, let everything be handled, and judge."""
        try:
            self._disturb()
        except CoordinationError as error:
            self._failures.append(f"the faults ended early: {error}")
        recovered, drained = self._settle()
        return self._judged(recovered, drained)

    def _settle(self) -> tuple[float, float]:
        """Let everything be handled; return the seconds until all answered, and all was done."""
        over, crew = time.monotonic(), self._scene.crew
        self._failures += crew.end("produce")
        self._await_answers()
        recovered = time.monotonic() - over
        self._await_empty()
        drained = time.monotonic() - over
        self._failures += crew.end(*WORKERS)
        return recovered, drained

    def _judged(self, recovered: float, drained: float) -> Outcome:
        scenario, scene = self._scenario, self._scene
        raw = look(scene.stage.console().many, self._keys, INBOX)
        self._failures += raw.faults()
        end = self._end(raw)
        events = read_all(self._folder)
        kept, left = self._sorted_keys()
        self._failures += idle_roles(events)
        return Outcome(
            name=scenario.name,
            about=scenario.about,
            bound=scenario.bound,
            seconds=scene.seconds,
            faults=scene.deeds,
            counts=count(events, end),
            judgment=judge(events, end),
            dead=len(raw.dead),
            recovered=recovered,
            drained=drained,
            keys_kept=kept,
            keys_left=left,
            failures=self._failures,
        )

    def _disturb(self) -> None:
        scenario, scene = self._scenario, self._scene
        scene.note("all faults begin")
        scenario.begin(scene)
        while scene.left > 0:
            scene.pause(*scenario.every)
            if scene.left > 0 and scenario.act is not nothing:
                scene.note(f"{scenario.name} begins")
                scenario.act(scene)
                scene.note(f"{scenario.name} is over")
                scene.deeds += 1
        scenario.heal(scene)
        scene.note("all faults are over")

    def _await_answers(self) -> None:
        """Ask each `AgentWorker` by itself: others could hide one that hangs."""
        timeout = PROMPT_TIMEOUT if self._scenario.exact else RECOVERY_TIMEOUT
        end = time.monotonic() + timeout
        for member in self._scene.crew.of("serve"):
            agent = AgentId(INBOX.type, member.name)
            try:
                left = max(end - time.monotonic(), 0.1)
                self._coordinator.request(PRODUCER, agent, {}, timeout=left)
            except CoordinationError as error:
                self._failures.append(f"{member.name} does not answer after the faults: {error}")

    def _await_empty(self) -> None:
        end = time.monotonic() + DRAIN_TIMEOUT
        while self._unfinished():
            if time.monotonic() > end:
                self._failures.append(f"not all is handled {DRAIN_TIMEOUT:g} s after the faults")
                return
            time.sleep(_LOOK)

    def _unfinished(self) -> int:
        stats = self._coordinator.stats(INBOX)
        return sum(stats.ready.values()) + stats.delayed + stats.leased

    def _end(self, raw: RawInbox) -> End:
        scenario, crew = self._scenario, self._scene.crew
        return End(
            stored=raw.messages,
            dead=raw.dead,
            killed=frozenset(crew.killed),
            deliveries=RETRY_ATTEMPTS + 1,
            clock_offset=_clock_offset(self._scene.stage.console()),
            replies_lost=not scenario.exact,
            calls_failed=not (scenario.exact or scenario.made_good),
            replicated=bool(scenario.replicas),
            losses=self._scene.losses,
            stops=crew.stops,
        )

    def _sorted_keys(self) -> tuple[list[str], list[str]]:
        """Return the keys that may be left, and those that may not."""
        inbox = self._keys.inbox(INBOX)
        lasting = {inbox[name] for name in _LASTING}
        kept: list[str] = []
        left: list[str] = []
        for console in self._scene.stage.consoles():
            for key in _scan(console, self._keys.prefix):
                fine = key in lasting or console("PTTL", key) != _FOR_EVER
                (kept if fine else left).append(key.removeprefix(f"{self._keys.prefix}:"))
        return sorted(kept), sorted(left)


def idle_roles(events: Sequence[Event]) -> list[str]:
    """Say which kind of worker handled nothing, where there was enough for all."""
    handled = of(events, "handled")
    busy = {event.process.rstrip(_NUMBER) for event in handled}
    if len(handled) < _ENOUGH:
        return []
    return [f"no process that can {role} handled anything" for role in WORKERS if role not in busy]


def _clock_offset(console: Console) -> int:
    seconds, rest = console("TIME")
    return int(seconds) * 1_000_000 + int(rest) - microseconds()


def _scan(console: Console, prefix: str) -> list[str]:
    found: list[str] = []
    cursor = b"0"
    while True:
        cursor, names = console("SCAN", cursor.decode(), "MATCH", f"{prefix}*", "COUNT", _A_PAGE)
        found += (name.decode() for name in names)
        if cursor == b"0":
            return found
