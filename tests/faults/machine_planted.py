"""Bugs that are planted in a copy of the product, to see that the state machine finds them.

The list is `planted.md`. Each is a slip that one person could make in one place.
"""

from tests.faults.planted import APPLYING, CHANGE_SETS, EFFECTS, Plant
from tests.faults.source import Replacement

WRITING = "domain/use_cases/write_points.py"
RESTORING = "domain/use_cases/steps/restore.py"
REPAIRING = "domain/use_cases/repair.py"

ANY_CONTENT = Replacement(
    RESTORING,
    "    return [key for key, hash_ in made if now.get(key) == hash_]\n",
    "    return [key for key, _ in made]\n",
)

MACHINE_PLANTS = (
    Plant(
        "before-is-after",
        (
            Replacement(
                CHANGE_SETS,
                "        kept.append(row)\n        before.append(head_hash)\n",
                "        kept.append(row)\n        before.append(hash_)\n",
            ),
        ),
    ),
    Plant(
        "key-without-fields",
        (
            Replacement(
                WRITING,
                "fields = [key + encode_payload(fields) for key, fields in self.payloads.items()]",
                "fields = list(self.payloads)",
            ),
        ),
    ),
    Plant(
        "payload-of-a-stale-point",
        (
            Replacement(
                WRITING,
                'await self._images(points, "set-payload", bodies, based_on)',
                'await self._images(points, "set-payload", bodies)',
            ),
        ),
    ),
    Plant(
        "applied-one-too-far",
        (
            Replacement(
                APPLYING,
                "            lease, batch[-1].version, points, _because(batch[-1])\n",
                "            lease, batch[-1].version + 1, points, _because(batch[-1])\n",
            ),
        ),
    ),
    Plant(
        "oldest-of-a-batch",
        (
            Replacement(
                EFFECTS,
                "                last[key] = manifest, row\n",
                "                last.setdefault(key, (manifest, row))\n",
            ),
        ),
    ),
    Plant(
        "gap-skipped",
        (
            Replacement(
                APPLYING,
                """        events = await self._tools.ledger.events(
            self._generation, after=status.applied, through=status.applied + WINDOW
        )
        if not events or events[0].version != status.applied + 1:""",
                """        first = min((change.version for change in self._delivered), default=0)
        events = await self._tools.ledger.events(
            self._generation, after=max(status.applied, first - 1), through=status.recorded
        )
        if not events:""",
            ),
        ),
    ),
    Plant(
        "deleted-only-alone",
        (
            Replacement(
                EFFECTS,
                "        if deleted:\n            await store.delete(physical, deleted)\n"
                "        return len(last)",
                "        elif deleted:\n            await store.delete(physical, deleted)\n"
                "        return len(last)",
            ),
        ),
    ),
    Plant(
        "captured-over-a-later-write",
        (
            Replacement(
                CHANGE_SETS,
                "    return at is not None and head_version > at"
                " and head_version not in draft.passed_over\n",
                "    return False\n",
            ),
        ),
    ),
    Plant(
        "compensated-forward",
        (
            Replacement(
                "domain/model/migration.py",
                "                for step in reversed(self.plan.steps)\n",
                "                for step in self.plan.steps\n",
            ),
        ),
    ),
    Plant(
        "given-back-from-now",
        (
            Replacement(
                "domain/use_cases/steps/hand_over.py",
                '                    since=versions["copies"][copy.physical],\n',
                "                    since=copy.recorded,\n",
            ),
        ),
    ),
    Plant(
        "deletions-not-given-back",
        (
            Replacement(
                "domain/use_cases/flows/give_back.py",
                "[key for key in keys if key in here or key not in spared]",
                "[key for key in keys if key in here]",
            ),
        ),
    ),
    Plant(
        "alias-not-put-back",
        (
            Replacement(
                "domain/use_cases/steps/aliases.py",
                "partial(Generation.remove_alias, alias=alias, restore=previous.get(alias))",
                "partial(Generation.remove_alias, alias=alias, restore=None)",
            ),
        ),
    ),
    Plant(
        "restored-without-the-deleted",
        (
            Replacement(
                RESTORING,
                "            keys = [key for _, key in page]\n",
                '            keys = [key for kind, key in page if kind != "missing"]\n',
            ),
        ),
    ),
    Plant(
        "undone-over-later-writes",
        (
            Replacement(
                RESTORING,
                "before, captured_at=own[-1][0])",
                "before, captured_at=status.recorded)",
            ),
            ANY_CONTENT,
        ),
    ),
    Plant(
        "undo-takes-its-own",
        (
            Replacement(
                RESTORING,
                '            and event.source.get("migration") == str(run.migration)\n'
                '            and event.source["direction"] == FORWARD\n',
                '            and event.source.get("migration") == str(run.migration)\n',
            ),
            ANY_CONTENT,
        ),
    ),
    Plant(
        "first-of-several-wins",
        (
            Replacement(
                CHANGE_SETS,
                "        self.heads |= new\n",
                "        self.heads = new | self.heads\n",
            ),
        ),
    ),
    Plant(
        "version-without-its-event",
        (
            Replacement(
                "adapters/postgres/reading.py",
                "WHERE stream = $1 AND position <= $2 ORDER BY version DESC LIMIT 1",
                "WHERE stream = $1 AND position < $2 ORDER BY version DESC LIMIT 1",
            ),
        ),
    ),
    Plant(
        "repair-of-a-neighbour",
        (
            Replacement(
                REPAIRING,
                "        heads = await self._tools.ledger.heads_of("
                "self._status.generation, sorted(wanted))\n",
                "        heads = await self._tools.ledger.heads(\n"
                "            self._status.generation,\n"
                '            after=min(wanted, default=b"")[:-1],\n'
                "            limit=len(wanted),\n"
                "        )\n",
            ),
        ),
    ),
    Plant(
        "repair-spares-the-wrong",
        (
            Replacement(
                REPAIRING,
                'keep_extra = vars(created.event)["origin"] != "created"',
                'keep_extra = vars(created.event)["origin"] == "created"',
            ),
        ),
    ),
    Plant(
        "adopted-again-without-deletions",
        (
            Replacement(
                "domain/use_cases/take_in.py",
                "            drafts = [ChangeSetDraft.tombstones(status.generation, gone, **more)] "
                "if gone else []\n",
                "            drafts: list[ChangeSetDraft] = []\n",
            ),
        ),
    ),
)
"""Every bug of the second list in `planted.md`."""
