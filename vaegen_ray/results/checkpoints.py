"""The checkpoints of a sweep, and which trials each of them holds."""

import json

from vaegen_ray.results.names import safe_name
from vaegen_ray.results.parquet import SAFE_NAME
from vaegen_ray.results.storage import Storage
from vaegen_ray.spec.trial import TrialSpec

WEIGHTS = ".safetensors"


class CheckpointFiles:
    """The folder ``checkpoints`` of a sweep, and what is moved to ``set-aside``."""

    storage: Storage
    name: str
    set_aside_notes: list[str]

    def write_checkpoint(self, bundle_id: str, data: bytes) -> None:
        """Keeps the state of an unfinished bundle, in place of its last checkpoint."""
        self.storage.write(self._path("checkpoints", bundle_id + WEIGHTS), data)

    def read_checkpoint(self, bundle_id: str) -> bytes | None:
        """The checkpoint of a bundle, or None."""
        return self.storage.read_optional(self._path("checkpoints", bundle_id + WEIGHTS))

    def delete_checkpoint(self, bundle_id: str) -> None:
        """Removes the checkpoint of a bundle, if it has one."""
        for suffix in (WEIGHTS, ".json"):
            self.storage.delete(self._path("checkpoints", bundle_id + suffix))

    def set_aside_checkpoint(self, bundle_id: str, reason: str) -> None:
        """Moves a damaged checkpoint out of the way; its bundle starts anew."""
        self.set_aside("checkpoints", bundle_id + WEIGHTS, reason)

    def write_checkpoint_members(self, bundle_id: str, trial_ids: list[str]) -> None:
        """Says which trials the checkpoint of a bundle holds; written before the first checkpoint."""
        self.storage.write_json(self._path("checkpoints", bundle_id + ".json"), {"trial_ids": trial_ids})

    def started_bundles(self) -> dict[str, list[str]]:
        """The trial ids of every bundle with a checkpoint, in the order of its members."""
        checkpoints = set(self.checkpoints())
        return {bundle: members for bundle, members in self.begun_bundles().items() if bundle in checkpoints}

    def begun_bundles(self) -> dict[str, list[str]]:
        """The trial ids of every bundle that was begun and is not finished, in the order of its members. A damaged list
        is set aside; where there is a checkpoint, which holds the specifications too, it is written again."""
        names = {name.removesuffix(".json") for name in self.storage.list(self._path("checkpoints"), ".json")}
        found = {}
        for bundle in sorted(name for name in names | set(self.checkpoints()) if SAFE_NAME.fullmatch(name)):
            members = self._members(bundle)
            if members is None and (members := self._members_of_checkpoint(bundle)) is not None:
                self.write_checkpoint_members(bundle, members)
            if members is not None:
                found[bundle] = members
        return found

    def _members(self, bundle: str) -> list[str] | None:
        name = f"{bundle}.json"
        data = self.storage.read_optional(self._path("checkpoints", name))
        if data is None:
            return None
        try:
            members = json.loads(data)["trial_ids"]
            if not (isinstance(members, list) and all(isinstance(member, str) for member in members)):
                raise TypeError("its trial_ids are no list of words")
            return members
        except (ValueError, LookupError, TypeError, RecursionError) as error:
            self.set_aside("checkpoints", name, f"it does not say which trials a checkpoint holds: {error}")
            return None

    def _members_of_checkpoint(self, bundle: str) -> list[str] | None:
        data = self.read_checkpoint(bundle)
        if data is None:
            return None
        try:
            header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
            specs = json.loads(header["__metadata__"]["values"])["specs"]
            return [TrialSpec.from_dict(spec).trial_id for spec in specs]
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            self.set_aside_checkpoint(bundle, f"it does not say which trials it holds: {error}")
            return None

    def checkpoints(self) -> list[str]:
        """The bundles that have a checkpoint, sorted."""
        names = self.storage.list(self._path("checkpoints"), WEIGHTS)
        return [name.removesuffix(WEIGHTS) for name in names if SAFE_NAME.fullmatch(name)]

    def set_aside(self, folder: str, name: str, reason: str) -> None:
        """Moves a file that cannot be used to ``set-aside/``, and notes why."""
        path = self._path(folder, name)
        self.storage.move(path, self._path("set-aside", name))
        self.set_aside_notes.append(f"{self.storage.where(path)} was set aside: {reason}")

    def _path(self, *parts: str) -> str:
        return "/".join([self.name, *(safe_name("the name of a file of a sweep", part) for part in parts)])
