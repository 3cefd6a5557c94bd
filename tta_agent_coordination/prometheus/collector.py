"""Gauges that are read from Redis when Prometheus scrapes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from tta_agent_coordination import checks
from tta_agent_coordination.agents.record import AgentRecord
from tta_agent_coordination.coordinator.core import RedisMessageCoordinator
from tta_agent_coordination.delivery import InboxStats
from tta_agent_coordination.errors import CoordinationError
from tta_agent_coordination.identity import AgentId
from tta_agent_coordination.prometheus.labels import DEFAULT_AGENT_TYPES, Labels
from tta_agent_coordination.registry.interface import AgentRegistry

DEFAULT_INBOXES = 1000
"""Inboxes that one scrape counts at most."""
_A_LOOK = 100
"""Inboxes counted in one round trip."""

Counted = dict[AgentId, InboxStats]


class InboxCollector(Collector):
    """Counts what inboxes hold, and agents by their liveness, whenever it is scraped.

    It asks Redis for that: for up to a thousand inboxes ten round trips, and one or two for the
    agents. A scrape never fails: while Redis is away it says that, and nothing else.
    """

    def __init__(
        self,
        coordinator: RedisMessageCoordinator,
        agents: AgentRegistry | None = None,
        *,
        inboxes: int = DEFAULT_INBOXES,
        agent_types: int = DEFAULT_AGENT_TYPES,
    ) -> None:
        """Prepare; nothing is asked yet, nor when it is registered.

        Args:
            coordinator: Whose inboxes; its ``call_timeout`` is that of each round trip.
            agents: Whose agents; None: they are not counted.
            inboxes: How many inboxes are counted, the shared ones first.
            agent_types: Different values of the label ``agent_type``.
        """
        self._coordinator = coordinator
        self._agents = agents
        self._most = checks.count("inboxes", inboxes, least=1)
        self._labels = Labels(agent_types)

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """Return the metrics without values; for prometheus-client, when this is registered."""
        yield _up()
        yield from _of_inboxes({}, 0, self._labels)
        if self._agents is not None:
            yield _of_agents((), self._labels)

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Ask Redis, and return the metrics."""
        up = _up()
        found: list[GaugeMetricFamily] = []
        try:
            found += self._look()
        except CoordinationError:  # the log and the breaker's metrics say more
            found.clear()
            up.add_metric([], 0.0)
        else:
            up.add_metric([], 1.0)
        yield up
        yield from found

    def _look(self) -> Iterator[GaugeMetricFamily]:
        listed = self._coordinator.inboxes()
        chosen = sorted(listed, key=lambda inbox: (inbox.instance is not None, str(inbox)))
        chosen = chosen[: self._most]
        counted: Counted = {}
        for start in range(0, len(chosen), _A_LOOK):
            counted |= self._coordinator.internals.stats_of_each(chosen[start : start + _A_LOOK])
        yield from _of_inboxes(counted, len(listed) - len(chosen), self._labels)
        if self._agents is not None:
            yield _of_agents(self._agents.list_registered(include_dead=True), self._labels)


def _up() -> GaugeMetricFamily:
    return GaugeMetricFamily("tta_redis_up", "Whether Redis answered this scrape.")


def _of_inboxes(counted: Counted, left_out: int, labels: Labels) -> Iterator[GaugeMetricFamily]:
    ready, held = Counter[tuple[str, str]](), Counter[tuple[str, str]]()
    oldest = dict[tuple[str, ...], float]()
    for inbox, stats in counted.items():
        agent_type = labels.of(inbox)
        for priority, count in stats.ready.items():
            ready[agent_type, priority.name.lower()] += count
        for state in ("delayed", "leased", "dead"):
            held[agent_type, state] += getattr(stats, state)
        age = max(oldest.get((agent_type,), 0.0), stats.oldest_ready_age or 0.0)
        oldest[agent_type,] = age
    yield _gauge(
        "tta_inbox_ready_messages", "Messages that wait.", ["agent_type", "priority"], ready
    )
    yield _gauge(
        "tta_inbox_messages",
        "Messages that are delayed, on lease or dead.",
        ["agent_type", "state"],
        held,
    )
    yield _gauge(
        "tta_inbox_oldest_ready_seconds",
        "Seconds since the oldest of the waiting messages was stored.",
        ["agent_type"],
        oldest,
    )
    yield _gauge(
        "tta_inboxes_not_counted", "Inboxes beyond the bound of the collector.", [], {(): left_out}
    )


def _of_agents(records: Iterable[AgentRecord], labels: Labels) -> GaugeMetricFamily:
    counts = Counter((labels.of(one.agent_id), one.liveness.value) for one in records)
    return _gauge("tta_agents", "Registered agents.", ["agent_type", "liveness"], counts)


def _gauge(
    name: str, text: str, labels: Sequence[str], values: Mapping[tuple[str, ...], float]
) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, text, labels=labels)
    for label_values, value in values.items():
        family.add_metric(list(label_values), value)
    return family
