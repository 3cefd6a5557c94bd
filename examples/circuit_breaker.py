"""A service fails. After three failures nobody calls it any more, until it may have recovered.

Every process that makes a breaker of the same name shares what they all see of the service.
"""

import logging
import sys
import time
from contextlib import closing

from tta_agent_coordination import (
    CircuitBreaker,
    CircuitBreakerConfig,
    CircuitBreakerOpenError,
    retry,
)
from tta_agent_coordination.embedded import EmbeddedServer


class BusyError(Exception):
    """The service asks for patience; trying again helps."""


class BadPromptError(Exception):
    """Our own mistake; it says nothing about the service."""


class Model:
    """Stands for a language model behind an API."""

    down = False
    busy = 0

    def ask(self, prompt: str) -> str:
        """Answer, unless it is down or busy."""
        if not prompt:
            raise BadPromptError("a prompt is needed")
        if self.down:
            raise ConnectionError("the service is down")
        if self.busy:
            self.busy -= 1
            raise BusyError("come again later")
        return f"an answer to {prompt!r}"


model = Model()


# [guard]
config = CircuitBreakerConfig(failure_threshold=3, timeout_seconds=0.5, excluded=BadPromptError)


def ask(breaker: CircuitBreaker, prompt: str) -> str:
    """Ask the model, unless it is known to be down."""
    try:
        return breaker.call(model.ask, prompt)
    except CircuitBreakerOpenError as error:
        return f"not asked: it is of use to come again in {error.retry_after:.1f} s"


# [/guard]


# [retry]
def ask_patiently(breaker: CircuitBreaker, prompt: str) -> str:
    """Ask again when the model is busy; every attempt goes through the breaker."""

    @retry(on=BusyError, attempts=4, deadline=10.0)
    @breaker
    def attempt() -> str:
        return model.ask(prompt)

    return attempt()


# [/retry]


def main() -> None:
    """See the circuit open, close again, and a retry succeed."""
    logging.basicConfig(stream=sys.stdout, level=logging.INFO, format="log: %(message)s")
    with (
        EmbeddedServer() as server,
        closing(CircuitBreaker.from_url(server.url, "llm", config)) as breaker,
    ):
        print(ask(breaker, "how are you?"))
        model.down = True
        for _ in range(config.failure_threshold):
            try:
                ask(breaker, "are you there?")
            except ConnectionError as error:
                print(f"failed: {error}")
        print(ask(breaker, "are you there?"))

        model.down = False
        time.sleep(config.timeout_seconds)
        for _ in range(config.success_threshold):
            print(ask(breaker, "and now?"))

        model.busy = 2
        print(ask_patiently(breaker, "what is the time?"))
        for name, value in breaker.get_metrics().items():
            print(f"{name}: {value}")


if __name__ == "__main__":
    main()
