"""A process of its own with a breaker, which does what it reads and says what came of it.

Run as ``python -m tests.circuit.process URL PREFIX``. It reads ``fail``, ``succeed``, ``state`` and
``hang``, after which it says ``inside`` from within a call that ends at the next line.
"""

import sys

from tests.circuit.given import CONFIG, NAME, ServiceError
from tta_agent_coordination import CircuitBreaker, CircuitBreakerOpenError


def say(word: str) -> None:
    print(word, flush=True)


def fail() -> None:
    raise ServiceError


def hang() -> None:
    say("inside")
    sys.stdin.readline()


def main() -> None:
    url, prefix = sys.argv[1:]
    breaker = CircuitBreaker.from_url(url, NAME, CONFIG, prefix, refresh=0.0, call_timeout=5.0)
    calls = {"fail": fail, "succeed": lambda: None, "hang": hang}
    say("ready")
    for word in map(str.strip, sys.stdin):
        try:
            if word != "state":
                breaker.call(calls[word])
        except ServiceError:
            say("failed")
        except CircuitBreakerOpenError:
            say("refused")
        else:
            say(breaker.state.value if word == "state" else "done")
    breaker.close()


if __name__ == "__main__":
    main()
