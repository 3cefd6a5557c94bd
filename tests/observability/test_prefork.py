"""A scrape under gunicorn, which forks after it loaded the application."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.conftest import OwnServers
from tests.glue.processes import EXAMPLES, ROOT, START, gunicorn
from tests.support.waiting import eventually

WORKERS = 2
SENT = 'tta_messages_sent_total{agent_type="worker",outcome="stored"}'
READY = 'tta_inbox_ready_messages{agent_type="worker",priority="normal"}'


def test_whichever_process_is_scraped_tells_what_all_have_counted(
    own_server: OwnServers, tmp_path: Path
) -> None:
    env = {
        "REDIS": own_server().url,
        "PROMETHEUS_MULTIPROC_DIR": str(tmp_path),
        "PYTHONPATH": str(EXAMPLES),
    }
    sent = Counter[int]()
    with gunicorn("tests.observability.preloaded", cwd=ROOT, workers=WORKERS, **env) as web:

        def each_has_sent() -> bool:
            with ThreadPoolExecutor(2 * WORKERS) as senders:
                answers = list(senders.map(web.ask, ["/send"] * 2 * WORKERS))
            sent.update(answer.body["pid"] for answer in answers)
            return len(sent) == WORKERS

        # given that each process has counted messages of its own, and the parent one before
        eventually(each_has_sent, timeout=START, what=f"not {WORKERS} processes answer")
        assert web.pid not in sent
        total = sent.total() + 1

        # when they are scraped
        with ThreadPoolExecutor(2 * WORKERS) as scrapers:
            pages = list(scrapers.map(web.read, ["/metrics"] * 4 * WORKERS))

        # then every page has the sum of all, and what Redis holds, which is nobody's own
        for page in pages:
            values = dict(line.rsplit(" ", 1) for line in page.splitlines() if line[0] != "#")
            assert float(values[SENT]) == total, sent
            assert float(values[READY]) == total, sent
    assert web.status == 0
