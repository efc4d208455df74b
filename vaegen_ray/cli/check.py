"""``vaegen check``."""

import argparse
from typing import TYPE_CHECKING

from vaegen_ray.cli.completers import sweep_names
from vaegen_ray.cli.parts import Commands, add_results_storage, command, completes, say

if TYPE_CHECKING:
    from vaegen_ray.results.storage import Storage


def add(commands: Commands) -> None:
    """Adds the command."""
    made = command(commands, "check", run, "whether the files of a storage are whole; changes nothing")
    sweep = made.add_argument("sweep", metavar="SWEEP", nargs="?", help="one sweep [default: the whole storage]")
    completes(sweep, sweep_names)
    add_results_storage(made)
    made.add_argument(
        "--deep",
        action="store_true",
        help="read all files and compare their SHA-256, also of weights, checkpoints and samples [default: names and "
        "sizes]",
    )


def run(options: argparse.Namespace) -> int:
    """Prints a line for each file that is damaged or missing; returns 1 where there is one."""
    from vaegen_ray.errors import StorageError
    from vaegen_ray.results.storage import Storage
    from vaegen_ray.results.store import is_sweep
    from vaegen_ray.results.store import sweep_names as names_in

    storage = Storage.open(options.storage, create=False)
    sweeps = [name for name in names_in(storage) if is_sweep(storage, name)]
    if options.sweep is not None and options.sweep not in sweeps:
        raise StorageError(
            f"no sweep {options.sweep!r} in {storage.where()}; sweeps there: {', '.join(sweeps) or 'none'}"
        )
    faults = [
        line for name in sweeps if options.sweep in (None, name) for line in _check_sweep(storage, name, options.deep)
    ]
    if options.sweep is None and options.deep:
        faults += _check_samples(storage)
    for line in faults:
        say(line)
    what = "by SHA-256" if options.deep else "by name and size; --deep reads them"
    checked = options.sweep or f"{len(sweeps)} sweep{'s' * (len(sweeps) != 1)}"
    say(f"{checked} in {storage.where()} checked {what}: {len(faults)} fault{'s' * (len(faults) != 1)}")
    return 1 if faults else 0


def _check_sweep(storage: "Storage", name: str, deep: bool) -> list[str]:
    from vaegen_ray.errors import VaegenError
    from vaegen_ray.results.integrity import FOLDERS, find_faults
    from vaegen_ray.results.store import SweepStore

    store = SweepStore(storage, name)
    lines = []
    for fault in find_faults(storage, name, digests_of=FOLDERS if deep else ()):
        consequence = "; its VAEs are to do again, rerun the command of the sweep" if fault.committed else ""
        if fault.folder == "models" and fault.is_there:  # a start looks at the sizes of weights alone
            consequence = "; to train its VAEs again, delete the file and rerun the command of the sweep"
        lines.append(f"{storage.where(f'{name}/{fault.path}')}: {fault.reason}{consequence}")
    try:
        if (declaration := store.read_declaration()) is not None:
            declaration.check()
    except VaegenError as error:
        lines.append(f"{error}; rerun the command of the sweep")
    if deep:
        from vaegen_ray.serialization import unpack

        for bundle in store.checkpoints():
            try:
                unpack(store.read_checkpoint(bundle) or b"", storage.where(f"{name}/checkpoints/{bundle}.safetensors"))
            except VaegenError as error:
                lines.append(f"{error}; the bundle starts anew")
    return lines


def _check_samples(storage: "Storage") -> list[str]:
    """Trained diffusion models and their samples."""
    from vaegen_ray.errors import VaegenError
    from vaegen_ray.results.diffusions import DiffusionStore, models
    from vaegen_ray.results.shards import open_stream, streams

    lines = []
    for name in models(storage):
        model = DiffusionStore(storage, name)
        try:
            if model.committed() is not None:
                model.read_weights()
        except VaegenError as error:
            lines.append(f"{error}; the model is trained again")
    for digest in streams(storage):
        try:
            shards, _ = open_stream(storage, digest)
        except VaegenError as error:
            lines.append(str(error))
            continue
        for number in shards.numbers():
            try:
                shards.read(number)
            except VaegenError as error:
                lines.append(f"{error}; the shard is made again")
    return lines
