"""Bugs that are planted in a copy of the product, to see that the state machine finds them.

The list is `planted.md`. Each is a slip that one person could make in one place. What finds it is
the first word of what the machine says, or the error that ends an operation.
"""

from tests.faults.planted import APPLYING, CHANGE_SETS, EFFECTS, Plant
from tests.faults.source import Replacement

WRITING = "domain/use_cases/write_points.py"
RESTORING = "domain/use_cases/steps/restore.py"
REPAIRING = "domain/use_cases/repair.py"
ERASURES = "adapters/postgres/erasures.py"
GARBAGE = "adapters/postgres/garbage.py"

MACHINE_PLANTS = (
    Plant(
        "before-is-after",
        (
            Replacement(
                CHANGE_SETS,
                "        kept[row] = head_hash\n",
                "        kept[row] = hash_\n",
            ),
        ),
        found_by="migration",
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
        found_by="write",
    ),
    Plant(
        "payload-of-a-stale-point",
        (
            Replacement(
                WRITING,
                'await self._images(points, "set-payload", bodies, instead_of, based_on)',
                'await self._images(points, "set-payload", bodies, instead_of)',
            ),
        ),
        found_by="heads",
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
        found_by="applied",
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
        found_by="rollback",
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
        found_by="rollback",
    ),
    Plant(
        "deleted-only-alone",
        (
            Replacement(
                EFFECTS,
                "        if deleted:\n            await store.delete(physical, sorted(deleted))\n"
                "        return len(last)",
                "        elif deleted:\n            await store.delete(physical, sorted(deleted))\n"
                "        return len(last)",
            ),
        ),
        found_by="rollback",
    ),
    Plant(
        "captured-over-a-later-write",
        (
            Replacement(
                CHANGE_SETS,
                " or (captured_at is not None and head_version > captured_at):\n",
                ":\n",
            ),
        ),
        seed=2,
        found_by="heads",
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
        found_by="store",
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
        found_by="store",
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
        found_by="store",
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
        found_by="NotFound",
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
        found_by="migration",
    ),
    Plant(
        "undone-over-later-writes",
        (
            Replacement(
                RESTORING,
                "last = captured_at = own[-1][0] if own else status.recorded",
                "last = captured_at = status.recorded",
            ),
        ),
        seed=3,
        found_by="heads",
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
        ),
        found_by="heads",
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
        found_by="LedgerError",
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
        found_by="versions",
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
        found_by="store",
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
        found_by="store",
    ),
    Plant(
        "adopted-again-without-deletions",
        (
            Replacement(
                "domain/use_cases/take_in.py",
                "    drafts = [ChangeSetDraft.tombstones(status.generation, gone, **more)] "
                "if gone else []\n",
                "    drafts: list[ChangeSetDraft] = []\n",
            ),
        ),
        seed=2,
        found_by="migration",
    ),
    Plant(
        "erased-only-where-it-lives",
        (
            Replacement(
                "domain/use_cases/find_subjects.py",
                "            if not wanted or wanted & {status.collection, status.physical}\n",
                "            if not status.gone\n"
                "            and (not wanted or wanted & {status.collection, status.physical})\n",
            ),
        ),
        found_by="erased",
    ),
    Plant(
        "erased-without-packs",
        (
            Replacement(
                ERASURES,
                "SELECT body FROM moved UNION SELECT body FROM left_behind\n",
                "SELECT body FROM moved\n",
            ),
        ),
        found_by="erased",
    ),
    Plant(
        "versions-keep-the-erased",
        (
            Replacement(
                ERASURES,
                "    WHERE p.gid = s.gid AND p.id = s.id AND p.version <= s.through\n",
                "    WHERE p.gid = s.gid AND p.id = s.id AND p.until > s.through\n",
            ),
        ),
        found_by="erased",
    ),
    Plant(
        "anew-with-the-erased",
        (Replacement(ERASURES, "    if not ids:\n", "    if not ids or erased.done:\n"),),
        found_by="Corrupt",
    ),
    Plant(
        "anew-without-the-returned",
        (Replacement(ERASURES, "[through] * len(keys)", "[_FOR_EVER] * len(keys)"),),
        found_by="versions",
    ),
    Plant(
        "packed-over-a-write",
        (
            Replacement(
                "adapters/postgres/heads.py",
                "    WHERE h.gid = $1 AND h.hash = u.hash AND (h.body,",
                "    WHERE h.gid = $1 AND (h.body,",
            ),
            Replacement(
                "adapters/postgres/packing.py",
                "            if known[key][0] != hash_:\n",
                "            if key not in known:\n",
            ),
        ),
        found_by="migration",
    ),
    Plant(
        "swept-under-a-label",
        (
            Replacement(
                GARBAGE,
                "WHERE k >= h.version AND k < h.until",
                "WHERE k > h.version AND k < h.until",
            ),
        ),
        found_by="ObjectMissing",
    ),
    Plant(
        "swept-though-written-again",
        (
            Replacement(
                GARBAGE,
                '            needed = sorted(row["body"] for row in still)\n',
                '            needed = sorted(row["body"] for row in still[:0])\n',
            ),
            Replacement(
                "adapters/postgres/bodies.py",
                "    if condemned:\n        await connection.execute(_KEEP, condemned)\n",
                "",
            ),
        ),
        found_by="migration",
    ),
)
"""Every bug of the second list in `planted.md`."""
