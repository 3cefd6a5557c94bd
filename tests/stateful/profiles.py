"""How long the stateful test looks: ``HYPOTHESIS_PROFILE=thorough`` for a long night.

Nothing is derandomized: each run looks elsewhere, and a failure prints the blob that repeats it.
"""

import os

from hypothesis import HealthCheck, Phase, settings

_COMMON = settings(
    database=None,
    deadline=None,
    derandomize=False,
    print_blob=True,
    suppress_health_check=list(HealthCheck),
)
# Explaining a failure costs a hundred runs more than finding it.
_PHASES = (Phase.explicit, Phase.generate, Phase.target, Phase.shrink)

PROFILES = {
    "default": settings(_COMMON, max_examples=60, stateful_step_count=50, phases=_PHASES),
    "thorough": settings(_COMMON, max_examples=3000, stateful_step_count=80, phases=_PHASES),
}


def chosen() -> settings:
    """Return the settings that ``HYPOTHESIS_PROFILE`` names; others mean the default."""
    return PROFILES.get(os.environ.get("HYPOTHESIS_PROFILE", ""), PROFILES["default"])
