"""The page about observability says what the code does."""

import inspect
import re
from contextlib import closing
from pathlib import Path

import attrs
import fakeredis
import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.registry import Collector

from tests.doctor.test_docs import rows
from tta_agent_coordination import RedisAgentRegistry, RedisMessageCoordinator, events
from tta_agent_coordination.prometheus import (
    DEFAULT_AGENT_TYPES,
    DEFAULT_INBOXES,
    InboxCollector,
    instrument,
)

PAGE = (Path(__file__).parents[2] / "docs" / "observability.md").read_text("utf-8")
EVENTS = {
    name: kind
    for name, kind in vars(events).items()
    if inspect.isclass(kind) and issubclass(kind, events.Event) and kind is not events.Event
}
SUFFIXES = {"counter": ("",), "gauge": ("",), "histogram": ("_bucket", "_count", "_sum")}


def listed(names: list[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def test_every_event_has_a_name_of_its_own() -> None:
    assert len({kind.name for kind in EVENTS.values()}) == len(EVENTS)


def test_the_page_lists_every_event_with_its_fields() -> None:
    told = {cells[0]: cells[1:3] for cells in rows(PAGE, "## Events")}

    assert told == {
        f"`{name}`": [f"`{kind.name}`", listed([field.name for field in attrs.fields(kind)])]
        for name, kind in EVENTS.items()
    }


def test_every_event_is_a_frozen_value_that_is_like_no_other() -> None:
    for kind in [*EVENTS.values(), events.Event]:
        values = dict.fromkeys((field.name for field in attrs.fields(kind)), 0)
        one, other = kind(**values), kind(**values)
        assert one == one  # noqa: PLR0124 - that is what is asked
        assert one != other
        assert len({one, other}) == 2
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            setattr(one, next(iter(values), "name"), 1)
        if values:
            with pytest.raises(TypeError, match="positional"):
                kind(*values.values())


@pytest.fixture
def metrics() -> dict[str, tuple[str, str, str]]:
    """Every metric: its type, its labels and its text."""
    registry, fake = CollectorRegistry(), fakeredis.FakeRedis()
    instrument(registry=registry)
    with (
        closing(fake),
        RedisMessageCoordinator(fake) as coordinator,
        RedisAgentRegistry(fake) as agents,
    ):
        registry.register(InboxCollector(coordinator, agents))
        found: dict[str, tuple[str, str, str]] = {}
        for collector in registry._collector_to_names:
            found |= described(collector)
    return found


def described(collector: Collector) -> dict[str, tuple[str, str, str]]:
    found: dict[str, tuple[str, str, str]] = {}
    for family in collector.describe():
        own = getattr(collector, "_labelnames", None)
        labels = getattr(family, "_labelnames", ()) if own is None else own
        name = f"{family.name}_total" if family.type == "counter" else family.name
        text = family.documentation.removesuffix(".")
        found[name] = (family.type, listed(list(labels)), text)
    return found


def test_the_page_lists_every_metric_with_its_labels(
    metrics: dict[str, tuple[str, str, str]],
) -> None:
    told = {cells[0].strip("`"): tuple(cells[1:]) for cells in rows(PAGE, "## Prometheus")}

    assert told == metrics


def test_metrics_are_named_as_prometheus_asks(metrics: dict[str, tuple[str, str, str]]) -> None:
    for name, (kind, labels, _) in metrics.items():
        assert re.fullmatch("tta_[a-z_]+", name)
        assert name.endswith("_total") == (kind == "counter")
        assert name.endswith("_seconds") or kind != "histogram"
        assert not {"inbox", "agent", "message_id"} & set(labels.split("`"))


def test_queries_on_the_page_ask_for_metrics_that_there_are(
    metrics: dict[str, tuple[str, str, str]],
) -> None:
    asked = set(re.findall(r"\btta_(?!agent_coordination)[a-z_]+", PAGE))
    series = {
        f"{name}{suffix}" for name, (kind, *_) in metrics.items() for suffix in SUFFIXES[kind]
    }

    assert asked <= series | set(metrics)


def test_labels_in_queries_are_those_of_the_metric(
    metrics: dict[str, tuple[str, str, str]],
) -> None:
    for name, label in re.findall(r"\b(tta_[a-z_]+?)(?:_count)?{(\w+)=", PAGE):
        assert f"`{label}`" in metrics[name][1]


def test_the_bounds_on_the_page_are_those_of_the_code() -> None:
    assert f"no\nmore than {DEFAULT_AGENT_TYPES} different ones" in PAGE
    assert f"at most {DEFAULT_INBOXES:,} inboxes" in PAGE
