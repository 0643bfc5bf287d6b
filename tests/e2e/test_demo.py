"""The demo is the promise of the README; it holds on a machine without anything configured.

It holds with a Kafka of one's own, too.
"""

from pathlib import Path

import pytest

from tests.e2e.program import run
from tests.infra.brokers import broker_environment, configured
from tests.infra.kafka.admin import delete_topics

pytestmark = [pytest.mark.broker, pytest.mark.e2e, pytest.mark.timeout(240)]


@pytest.mark.parametrize(
    ("story", "words"), [("split", "SIGKILL"), ("time-travel", "the change of event")]
)
async def test_the_demo_tells_its_story_and_everything_it_claims_holds(
    tmp_path: Path, story: str, words: str
) -> None:
    if broker := configured():
        await delete_topics(broker)
    ended = await run(
        *("demo", story, "--data-dir", str(tmp_path)),
        folder=tmp_path,
        settings=broker_environment(),
        seconds=220,
    )

    assert ended.status == 0, ended.out + ended.err
    claims = [line.split("  ", 2) for line in ended.out.splitlines() if line.startswith("  yes  ")]
    assert len(claims) >= 8
    assert words in ended.out
    assert "Traceback" not in ended.out + ended.err
