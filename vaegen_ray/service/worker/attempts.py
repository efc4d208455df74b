"""Notes on the starts of bundles, for the next worker: how often one was started in vain, and whether it was halved.

    <storage>/<sweep>/starts/<bundle>.json     of an unfinished bundle, and of one that was halved

A worker that a kernel or Ray kills for its memory leaves no error behind. What it leaves is a bundle that is started
again and again and comes to no checkpoint; so starts are counted, within one run of the driver, from checkpoint to
checkpoint. A worker that raises an error, or saves what it has, does not count: it was not killed. No Ray in this file.
"""

import json

from vaegen_ray.bundle.packing import Bundle
from vaegen_ray.results.store import SweepStore
from vaegen_ray.spec.trial import bundle_id


class Starts:
    """The notes of one sweep. Methods raise ``StorageError`` where the storage refuses.

    Args:
        store: of the sweep.
        run: names the run of the driver; what others counted does not count.
    """

    def __init__(self, store: SweepStore, run: str) -> None:
        self._store = store
        self._run = run
        self._counted: set[str] = set()
        """Bundles whose start by this worker counts."""

    def read(self, bundle: Bundle) -> tuple[int, bool]:
        """How often a bundle was started in vain, and whether it was halved."""
        data = self._store.storage.read_optional(self._path(bundle))
        if data is None:
            return 0, False
        try:
            note = json.loads(data)
            return (int(note["starts"]) if note["run"] == self._run else 0), bool(note["halved"])
        except (ValueError, LookupError, TypeError, RecursionError):  # damaged; the next start writes it anew
            return 0, False

    def count(self, bundle: Bundle, starts: int) -> None:
        """A bundle is started, and was as often since its last checkpoint, this time included."""
        self._write(bundle, starts=starts)
        self._counted.add(bundle_id(bundle))

    def reset(self, bundle: Bundle) -> None:
        """The start of a bundle was not in vain, or no death ended it."""
        if bundle_id(bundle) in self._counted:
            self._write(bundle, starts=0)
            self._counted.discard(bundle_id(bundle))

    def halve(self, bundle: Bundle) -> None:
        """From now on a bundle is trained as its two halves."""
        self._write(bundle, halved=True)

    def forget(self, bundle: Bundle) -> None:
        """A bundle is finished."""
        self._store.storage.delete(self._path(bundle))
        self._counted.discard(bundle_id(bundle))

    def _write(self, bundle: Bundle, *, starts: int = 0, halved: bool = False) -> None:
        note = {"run": self._run, "starts": starts, "halved": halved, "trial_ids": [spec.trial_id for spec in bundle]}
        self._store.storage.write_json(self._path(bundle), note)

    def _path(self, bundle: Bundle) -> str:
        return f"{self._store.name}/starts/{bundle_id(bundle)}.json"
