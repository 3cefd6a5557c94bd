"""Runs a migration in a process of its own, which may be killed in it.

``python -m tests.migrate.process URL FROM_PREFIX TO_PREFIX``
"""

import sys

from tta_agent_coordination.migrate import Migration


def main() -> None:
    url, from_prefix, to_prefix = sys.argv[1:]
    with Migration.from_url(url, from_prefix, to_prefix) as migration:
        migration.run(final=True)


if __name__ == "__main__":
    main()
