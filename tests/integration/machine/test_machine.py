"""The state machine: a few examples here, more by `MACHINE_SEED` and `MACHINE_EXAMPLES`."""

import os
from pathlib import Path

import hypothesis
import pytest
from anyio.from_thread import start_blocking_portal
from hypothesis import HealthCheck, Phase
from hypothesis.stateful import run_state_machine_as_test

from adapters.postgres import flow_ranges
from domain.use_cases import apply_changes, erase, gather, lanes, merge, pack, work_flows
from domain.use_cases.flows import reading
from domain.use_cases.steps import drop, flow_control, step_run
from tests.integration.machine.rules import Machine, Tally
from tests.integration.machine.session import Servers

SEED = int(os.environ.get("MACHINE_SEED", "1"))
EXAMPLES = int(os.environ.get("MACHINE_EXAMPLES", "4"))
STEPS = 30


@pytest.fixture(autouse=True)
def small_and_quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything crosses many pages. Time passes only where a session says so, see `session`."""
    monkeypatch.setattr(merge, "PAGE", 3)
    monkeypatch.setattr(reading, "CHANGE_SETS_A_RANGE", 2)
    monkeypatch.setattr(reading, "CHANGED_POINTS_A_RANGE", 3)
    monkeypatch.setattr(apply_changes, "POLL_SECONDS", 0.05)
    monkeypatch.setattr(lanes, "LEASE_SECONDS", 60.0)
    monkeypatch.setattr(lanes, "SETTLE_SECONDS", 0.0)
    monkeypatch.setattr(drop, "SETTLE_SECONDS", 0.0)
    monkeypatch.setattr(work_flows, "IDLE_SECONDS", 0.02)
    monkeypatch.setattr(flow_ranges, "PAUSE_SECONDS", 0.0)
    monkeypatch.setattr(gather, "FIRST_POINTS", 4)
    monkeypatch.setattr(gather, "MOST_POINTS", 4)
    monkeypatch.setattr(pack, "ALWAYS", 1)
    monkeypatch.setattr(erase, "BODIES_AT_ONCE", 1)
    for module in (flow_control, step_run):
        monkeypatch.setattr(module, "POLL_SECONDS", 0.01)


@pytest.mark.timeout(120 + 30 * EXAMPLES)
def test_everything_together(
    postgres_url: str, ledger_template: str, shared_qdrant_url: str, tmp_path: Path
) -> None:
    with start_blocking_portal() as portal:

        @hypothesis.seed(SEED)
        class Bound(Machine):
            pass

        Bound.portal, Bound.tally = portal, Tally()
        Bound.servers = Servers(postgres_url, ledger_template, shared_qdrant_url, tmp_path)
        settings = hypothesis.settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            report_multiple_bugs=False,
            suppress_health_check=list(HealthCheck),
        )
        try:
            run_state_machine_as_test(Bound, settings=settings)
        except BaseException as error:
            error.add_note(f"machine: seed {SEED}, {Bound.tally.failed}")
            raise
