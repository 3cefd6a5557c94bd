"""The workers' fixtures."""

from tests.workers.conftest import coordinator, coordinators, serve

__all__ = ["coordinator", "coordinators", "serve"]
