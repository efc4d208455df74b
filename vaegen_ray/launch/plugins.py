"""Data sets of your own on the command line: files that are imported, images that are added or removed. No Ray."""

import argparse
import importlib.util
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from vaegen_ray.data import catalog, stored
from vaegen_ray.errors import SpecError, VaegenError, in_one_line
from vaegen_ray.launch.options import IMPORT, OneLineParser, add_import, at_least
from vaegen_ray.paths import expanded
from vaegen_ray.spec.diffusion import MOST_LEVELS
from vaegen_ray.spec.trial import LIKELIHOODS

_OF_ADD = {"levels": None, "binarise": False, "likelihood": None, "title": "", "test_percent": stored.TEST_PERCENT}
"""Options that go with ``--add`` alone, and what they are where they are not given."""
_running: set[Path] = set()
"""Files that are being imported."""


def import_files(argv: Sequence[str] | None) -> None:
    """Runs the files that ``--import`` names, before other options are read: what they register may be named there.

    Args:
        argv: the arguments; those of the process when None.

    Raises:
        SpecError: one is no Python file, has the name of another module, or cannot be run.
    """
    first = OneLineParser(add_help=False, allow_abbrev=False)
    add_import(first)
    for name in first.parse_known_args(argv)[0].imports or ():
        _import_file(expanded(name).resolve(), name)


def _import_file(path: Path, given: str) -> None:
    if path.suffix != ".py" or not path.is_file():
        raise SpecError(f"{IMPORT} must be a Python file; got {given!r}, which is looked for as {path}")
    loaded = sys.modules.get(path.stem)
    if loaded is not None and Path(getattr(loaded, "__file__", None) or ".").resolve() == path:
        if path in _running:
            raise SystemExit  # it starts a sweep in passing; said below, by what imports it
        return
    other = importlib.util.find_spec(path.stem) if loaded is None and path.stem.isidentifier() else None
    if loaded is not None or (other is not None and other.origin and Path(other.origin).resolve() != path):
        raise SpecError(f"{IMPORT} must be a file whose name no other module has; got {given!r} (rename it)")
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None, path
    module = sys.modules[path.stem] = importlib.util.module_from_spec(spec)
    _running.add(path)
    try:
        spec.loader.exec_module(module)
    except BaseException as error:
        del sys.modules[path.stem]  # given again, it is run again
        if isinstance(error, (VaegenError, KeyboardInterrupt)):
            raise
        ends = 'ends the program (put what it runs as a script behind if __name__ == "__main__")'
        what = ends if isinstance(error, SystemExit) else f"raises {in_one_line(error)}"
        raise SpecError(f"{IMPORT} must be a file that runs to its end; got {given!r}, which {what}") from error
    finally:
        _running.discard(path)


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of ``vaegen datasets`` that are about your own."""
    group = parser.add_argument_group("your own", "images of a file, under a name that every sweep takes as --dataset")
    group.add_argument(
        "--add",
        nargs=2,
        metavar=("NAME", "PATH"),
        help="copy the images of an .npz (train and test or val, or images), an .npy, or a folder of pictures",
    )
    group.add_argument("--remove", metavar="NAME", help="delete what was added; results on it stay")
    group.add_argument(
        "--levels",
        type=at_least(2, MOST_LEVELS),
        metavar="N",
        help="grey levels, pixel values are 0 .. N-1 [default: 2 where no pixel is above 1, otherwise 256]",
    )
    group.add_argument("--binarise", action="store_true", help="networks usually see them with 2 levels [default: off]")
    group.add_argument("--likelihood", choices=LIKELIHOODS, help="the usual p(x|z) [default: by levels and channels]")
    group.add_argument("--title", default="", help="what they are, in a few words [default: the name of the file]")
    group.add_argument(
        "--test-percent",
        type=at_least(1, 99),
        default=stored.TEST_PERCENT,
        metavar="P",
        help="part that becomes the test set where there is none [default: %(default)s]",
    )


def change(options: argparse.Namespace, say: Callable[[str], Any]) -> bool:
    """Does what ``--add`` or ``--remove`` asks for; False where neither was given.

    Raises:
        SpecError: two things are asked for at once, or an option of ``--add`` is given without it.
    """
    asked = [name for name in ("--get", "--add", "--remove") if getattr(options, name[2:])]
    if len(asked) > 1:
        raise SpecError(f"only one of --get, --add and --remove can be done at once; got {' and '.join(asked)}")
    given = [name for name, usual in _OF_ADD.items() if getattr(options, name) != usual]
    if given and not options.add:
        raise SpecError(f"--{given[0].replace('_', '-')} goes with --add NAME PATH alone; got it without")
    if options.remove:
        stored.remove(options.remove, options.data_dir)
        say(f"{options.remove} is removed; results on it stay")
        return True
    if not options.add:
        return False
    name, path = options.add
    entry = stored.add(
        name,
        path,
        options.data_dir,
        levels=options.levels,
        binarised=options.binarise,
        likelihood=options.likelihood,
        title=options.title,
        test_percent=options.test_percent,
        say=say,
    )
    shape = "x".join(map(str, entry.shape))
    say(
        f"{name}: {entry.n_train:,} training and {entry.n_test:,} test images, {shape}, {entry.native_levels} levels, "
        f"likelihood {entry.likelihood}; in {catalog.presence(name).where}"
    )
    if shared := stored.shared_images(entry):
        say(f"beware: {shared:,} test images are also training images, so generalization gaps will be too small")
    say(f"use it with any sweep: --dataset {name}")
    return True
