"""The one payload that every system carries: 300 bytes as compact JSON."""

from __future__ import annotations

import json
from typing import Any

PAYLOAD_BYTES = 300

_FIELDS: dict[str, Any] = {
    "task": "summarize",
    "document": "reports/2024/quarter-3.md",
    "section": 12,
    "score": 0.875,
    "labels": ["finance", "draft", "review"],
    "retry": False,
    "text": "",
}
PAYLOAD = _FIELDS | {
    "text": "x" * (PAYLOAD_BYTES - len(json.dumps(_FIELDS, separators=(",", ":"))))
}


def dump() -> str:
    """Return the payload as JSON; made anew each time, as a sender has to."""
    return json.dumps(PAYLOAD, separators=(",", ":"))
