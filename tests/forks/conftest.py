"""The workers' fixtures, for workers whose process is forked."""

from tests.workers.conftest import coordinator, coordinators, serve

__all__ = ["coordinator", "coordinators", "serve"]
