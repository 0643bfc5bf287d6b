"""The data directory: the catalogue, the open shards, and the order in which both change."""

import fcntl
import logging
import shutil
import threading
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import IO
from uuid import uuid4

import qdrant_edge as edge

from adapters.durable_files import sync_folder
from adapters.embedded.node import catalogue as catalogues
from adapters.embedded.node import settings, shard
from adapters.embedded.node.catalogue import Catalogue, Entry
from adapters.embedded.node.copying import copy
from adapters.embedded.node.disk import COLLECTION_BYTES, Disk, folder_size
from adapters.embedded.node.errors import collection_exists, no_collection, not_found, wrong_input
from adapters.embedded.node.shard import Shard
from adapters.embedded.node.vectors import Layout
from adapters.qdrant_grpc import qdrant

log = logging.getLogger(__name__)

CATALOGUE = "catalogue.json"
LOCK = "node.lock"
SHARDS = "shards"


class DataDirInUseError(Exception):
    """Another process has this data directory open."""


class Store:
    """Everything that the node keeps.

    A shard is made before it is catalogued, and its deletion is catalogued before its folder
    goes: a crash between leaves a folder that the next start removes.

    Raises:
        DataDirInUseError: another process has the directory open.
    """

    def __init__(self, data_dir: Path) -> None:
        data_dir.mkdir(parents=True, exist_ok=True)
        self._lock_file = _locked(data_dir / LOCK)
        self._path = data_dir / CATALOGUE
        self._folders = data_dir / SHARDS
        self._folders.mkdir(exist_ok=True)
        self._disk = Disk(data_dir)
        self._disk.look()
        self._changing = threading.Lock()
        self._catalogue = catalogues.load(self._path)
        self._remove_leftovers()
        self._shards = {
            name: self._opened(name, entry) for name, entry in self._catalogue.collections.items()
        }

    @property
    def catalogue(self) -> Catalogue:
        """What exists now."""
        return self._catalogue

    def name_of(self, name: str) -> str:
        """The collection that a name or an alias means.

        Raises:
            RefusalError: there is none.
        """
        catalogue = self._catalogue
        target = catalogue.aliases.get(name, name)
        if target not in catalogue.collections:
            raise no_collection(name)
        return target

    def shard(self, name: str) -> Shard:
        """The open collection that a name or an alias means.

        Raises:
            RefusalError: there is none.
        """
        found = self._shards.get(self.name_of(name))
        if found is None:
            raise no_collection(name)
        return found

    def create(self, name: str, config: qdrant.CollectionConfig) -> None:
        """Make a collection.

        Raises:
            RefusalError: the name is taken, the engine refuses the configuration, or the disk
                is full.
        """
        engine_config = settings.engine_config(config.params)
        with self._changing, self._disk.room(COLLECTION_BYTES):
            now = self._catalogue
            if name in now.collections:
                raise collection_exists(name)
            if name in now.aliases:
                raise wrong_input(
                    f"Can't create collection with name {name}. "
                    "Alias with the same name already exists"
                )
            entry = Entry(folder=uuid4().hex, config=config)
            opened = shard.create(self._folders / entry.folder, engine_config)
            sync_folder(self._folders)
            self._save(replace(now, collections={**now.collections, name: entry}))
            self._shards[name] = Shard(name, Layout(config.params), opened, self._disk)
        log.info("collection_created collection=%r folder=%s", name, entry.folder)

    def delete(self, name: str) -> bool:
        """Delete a collection and its aliases; false if there is none of this name."""
        with self._changing:
            now = self._catalogue
            if name not in now.collections:
                return False
            collections = dict(now.collections)
            entry = collections.pop(name)
            aliases = {a: target for a, target in now.aliases.items() if target != name}
            self._save(Catalogue(collections, aliases))
            try:
                self._shards.pop(name).close()
            finally:  # on a full disk it may not close, and this is what makes room
                shutil.rmtree(self._folders / entry.folder)
        log.info("collection_deleted collection=%r folder=%s", name, entry.folder)
        return True

    def change_entry(self, name: str, change: Callable[[Entry], Entry]) -> None:
        """Replace what the catalogue says of a collection, named or aliased."""
        with self._changing:
            target = self.name_of(name)
            now = self._catalogue
            self._save(
                replace(
                    now,
                    collections={**now.collections, target: change(now.collections[target])},
                )
            )

    def rewrite(self, name: str) -> None:
        """Write the files of a collection anew, without what was deleted from it.

        Raises:
            RefusalError: there is none, the disk is full, or its vectors cannot be copied.
        """
        with self._changing:
            target = self.name_of(name)
            entry = self._catalogue.collections[target]
            new = replace(entry, folder=uuid4().hex)
            folders = self._folders / entry.folder, self._folders / new.folder

            def rewritten(source: edge.EdgeShard) -> edge.EdgeShard:
                made = shard.create(folders[1], settings.engine_config(entry.config.params))
                copy(source, made, entry.indexes)
                sync_folder(self._folders)
                entries = {**self._catalogue.collections, target: new}
                self._save(replace(self._catalogue, collections=entries))
                return made

            with self._disk.room(folder_size(folders[0])):
                self._shards[target].replace(rewritten)
            shutil.rmtree(folders[0])
        log.info("collection_rewritten collection=%r folder=%s", target, new.folder)

    def change_aliases(self, actions: Iterable[qdrant.AliasOperations]) -> None:
        """Change aliases, all of them or none.

        Raises:
            RefusalError: an alias would hide a collection, or names something that is not there.
        """
        with self._changing:
            aliases = dict(self._catalogue.aliases)
            for action in actions:
                self._change_alias(aliases, action)
            self._save(replace(self._catalogue, aliases=aliases))
        log.info("aliases_changed aliases=%d", len(aliases))

    def close(self) -> None:
        """Flush and close everything."""
        with self._changing:
            for opened in self._shards.values():
                opened.close()
            self._lock_file.close()

    def _change_alias(self, aliases: dict[str, str], action: qdrant.AliasOperations) -> None:
        match action.WhichOneof("action"):
            case "create_alias":
                created = action.create_alias
                if created.collection_name not in self._catalogue.collections:
                    raise no_collection(created.collection_name)
                self._ensure_free(created.alias_name)
                aliases[created.alias_name] = created.collection_name
            case "rename_alias":
                renamed = action.rename_alias
                if renamed.old_alias_name not in aliases:
                    raise not_found(f"Alias {renamed.old_alias_name} does not exists!")
                self._ensure_free(renamed.new_alias_name)
                aliases[renamed.new_alias_name] = aliases.pop(renamed.old_alias_name)
            case "delete_alias":
                aliases.pop(action.delete_alias.alias_name, None)
            case _:
                raise wrong_input("Malformed AliasOperation type")

    def _opened(self, name: str, entry: Entry) -> Shard:
        params = entry.config.params
        engine_config = settings.engine_config(params)
        opened = shard.load(self._folders / entry.folder, engine_config)
        return Shard(name, Layout(params), opened, self._disk)

    def _ensure_free(self, alias: str) -> None:
        if alias in self._catalogue.collections:
            raise collection_exists(alias)

    def _save(self, catalogue: Catalogue) -> None:
        catalogues.save(self._path, catalogue)
        self._catalogue = catalogue

    def _remove_leftovers(self) -> None:
        catalogued = {entry.folder for entry in self._catalogue.collections.values()}
        for folder in self._folders.iterdir():
            if folder.name not in catalogued:
                shutil.rmtree(folder)
                log.warning("leftover_removed folder=%s", folder.name)


def _locked(path: Path) -> IO[bytes]:
    file = path.open("ab")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as exc:
        file.close()
        raise DataDirInUseError(f"{path.parent} is in use by another embedded node") from exc
    return file
