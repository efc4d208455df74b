"""Files of others cannot run code, leave the storage, steer a terminal or end in a traceback."""

import ast
import io
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import safetensors.torch
import torch

import vaegen_ray
from vaegen_ray import serialization
from vaegen_ray.claims.report import no_tags
from vaegen_ray.cli import diffusion as diffusion_command
from vaegen_ray.cli import samples as samples_command
from vaegen_ray.data import corruptions, tetrominoes
from vaegen_ray.errors import DataFormatError, SpecError, VaegenError, printable
from vaegen_ray.evaluation import sample_quality
from vaegen_ray.exit import fail
from vaegen_ray.reports import figures
from vaegen_ray.results import query
from vaegen_ray.results.cleanup import quarantine
from vaegen_ray.results.parquet import CorruptFileError, decode
from vaegen_ray.results.schema import METRICS, VERSION_KEY, trial_row
from vaegen_ray.results.shards import open_stream
from vaegen_ray.results.storage import Storage
from vaegen_ray.results.store import SweepStore
from vaegen_ray.service.sampling.diffusion_worker import import_weights
from vaegen_ray.spec.diffusion import DiffusionSpec
from vaegen_ray.spec.trial import TrialSpec
from vaegen_ray.sweep.defaults import base_spec

ROOT = Path(vaegen_ray.__file__).parent
SAFE = {"torch.load": ("weights_only", True), "np.load": ("allow_pickle", False), "numpy.load": ("allow_pickle", False)}
"""Loaders that open a pickle unless they are told not to, and how they are told."""
NEVER = {"eval", "exec", "compile", "os.system", "os.popen", "pd.read_pickle", "pandas.read_pickle"}
NEVER |= {"torch.hub.load", "torch.jit.load", "np.fromstring", "tarfile.open", "zipfile.ZipFile"}
"""Calls that run what they read, or unpack it where it says."""
NEVER_IMPORTED = {"cloudpickle", "dill", "joblib", "marshal", "shelve", "yaml", "xml"}
EVERYWHERE = {"0.0.0.0", "::", "[::]"}
"""Addresses that a server of ours would listen to everybody with."""
DEEP = "[" * 100_000


def risks(source: str) -> list[str]:
    """What in a module could run code out of a file or let others in."""
    said = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            name, words = ast.unparse(node.func), {each.arg: each.value for each in node.keywords}
            if name in NEVER or name.startswith("pickle.") or words.get("shell") is not None:
                said.append(name)
            if name in SAFE:
                word, wanted = SAFE[name]
                given = words.get(word)
                if not (isinstance(given, ast.Constant) and given.value is wanted):
                    said.append(f"{name} without {word}={wanted}")
        if isinstance(node, ast.Import):
            said += [alias.name for alias in node.names if alias.name.split(".")[0] in NEVER_IMPORTED]
        if isinstance(node, ast.ImportFrom) and node.module:
            if node.module.split(".")[0] in NEVER_IMPORTED | {"pickle"}:
                said.append(node.module)
            said += [f"{node.module}.{alias.name}" for alias in node.names if f"{node.module}.{alias.name}" in SAFE]
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value in EVERYWHERE:
            said.append(node.value)
    return said


def test_no_module_opens_a_pickle_or_runs_what_it_reads() -> None:
    found = {str(path.relative_to(ROOT)): risks(path.read_text()) for path in sorted(ROOT.rglob("*.py"))}
    assert found and {where: risky for where, risky in found.items() if risky} == {}


@pytest.mark.parametrize(
    "source",
    [
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "np.load(path, mmap_mode='r')",
        "np.load(path, allow_pickle=yes)",
        "import pickle\npickle.loads(data)",
        "from pickle import loads",
        "from torch import load",
        "import joblib",
        "from yaml import load",
        "eval(text)",
        "subprocess.run(line, shell=True)",
        "tarfile.open(path).extractall()",
        "server.bind(('0.0.0.0', 80))",
    ],
)
def test_the_search_finds_what_is_wrong(source: str) -> None:
    assert len(risks(source)) == 1


class Trap:
    """Unpickled, it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.path),)


@pytest.fixture
def trap(tmp_path: Path) -> Trap:
    """Checks that the pickle works, and that nobody unpickled it."""
    path = tmp_path / "trapped"
    pickle.loads(pickle.dumps(Trap(path)))
    path.rmdir()
    return Trap(path)


def npy(trap: Trap) -> bytes:
    file = io.BytesIO()
    np.save(file, np.array([trap], dtype=object), allow_pickle=True)
    return file.getvalue()


def test_pickles_in_arrays_weights_and_checkpoints_are_not_opened(
    trap: Trap, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "fog.npy").write_bytes(npy(trap))
    with pytest.raises(DataFormatError, match="must be an array that NumPy wrote"):
        corruptions._published(tmp_path / "fog.npy", 10, 1)
    with zipfile.ZipFile(tmp_path / "images.npz", "w") as archive:
        archive.writestr("images.npy", npy(trap))
        archive.writestr("digest.npy", npy(trap))
    with pytest.warns(UserWarning, match="is damaged"):
        assert tetrominoes._read(tmp_path / "images.npz", (1, 3, 16, 16)) is None
    torch.save({"weight": trap}, tmp_path / "weights.pth")
    monkeypatch.setattr(sample_quality, "inception_weights", lambda: tmp_path / "weights.pth")
    with pytest.raises(DataFormatError, match="download it again"):
        sample_quality.inception.__wrapped__()
    for read in (
        lambda data: import_weights(DiffusionSpec(), data, "file"),
        lambda data: serialization.unpack(data, "file"),
    ):
        for data in (pickle.dumps(trap), (tmp_path / "weights.pth").read_bytes()):
            with pytest.raises(DataFormatError, match="file is not a"):
                read(data)
    assert not trap.path.exists()


def test_a_pickled_type_in_a_parquet_file_is_not_opened(trap: Trap) -> None:
    field = pa.field("trial_id", pa.string(), metadata={
        "ARROW:extension:name": "arrow.py_extension_type", "ARROW:extension:metadata": pickle.dumps(trap),
    })  # fmt: skip
    sink = io.BytesIO()
    pq.write_table(pa.table([["x"]], schema=pa.schema([field], metadata=METRICS.metadata)), sink)
    with pytest.raises(CorruptFileError):
        decode(sink.getvalue(), METRICS, "file")
    assert not trap.path.exists()


def spec(**fields: Any) -> TrialSpec:
    return TrialSpec(**base_spec("digits", n_train=100, epochs=3), nc=4, seed=0, evaluate_at=(1, 3), **fields)


def row(**fields: Any) -> dict[str, Any]:
    made = trial_row(spec(), sweep="s", bundle_id="b", status="completed")
    return {**made, **fields}


def test_text_of_result_files_cannot_steer_a_terminal_or_be_html(tmp_path: Path) -> None:
    store = SweepStore(Storage.open(tmp_path), "s")
    store.commit_trials("b", [row(dataset="\x1b]0;owned\x07\x9b2Jdigits\n# x", error="<script>\u202e")])
    read = query.load(tmp_path, "s").trials.iloc[0]
    assert read["dataset"] == " ]0;owned 2Jdigits # x"
    assert read["error"] == "<script> "
    assert no_tags("<script>alert(1)</script> a < b <= c") == "&lt;script>alert(1)&lt;/script> a < b <= c"


def test_errors_are_one_line_that_cannot_steer_a_terminal(capsys: pytest.CaptureFixture) -> None:
    assert fail(VaegenError("no \x1b[2Jfile\r\nhere\x9b")) == 2
    assert capsys.readouterr().err == "error: no \ufffd[2Jfile here\ufffd\n"
    assert printable("déjà · π") == "déjà · π"


def test_text_that_is_not_text_is_a_damaged_file(tmp_path: Path) -> None:
    store = SweepStore(Storage.open(tmp_path), "s")
    store.commit_trials("b", [row(dataset="digits-of-somebody")])
    (path,) = (tmp_path / "s" / "trials").iterdir()
    table = pq.read_table(path).drop_columns("files").replace_schema_metadata({VERSION_KEY: "1"})  # without a digest
    bad = pa.array([b"\xff\xfe"], pa.binary()).view(pa.string())
    pq.write_table(table.set_column(table.column_names.index("dataset"), "dataset", bad), path)
    assert "UTF8" in query.load(tmp_path, "s").notes[0]
    assert store.committed() == set()


@pytest.mark.parametrize("name", ["x y.parquet", "\x1b[2J.parquet", "-\\-1-2.parquet", "a\n-1-2.parquet"])
def test_files_that_cannot_be_ours_are_nobodys_business(name: str, tmp_path: Path) -> None:
    store = SweepStore(Storage.open(tmp_path), "s")
    for folder in ("trials", "metrics"):
        (tmp_path / "s" / folder).mkdir(parents=True)
        (tmp_path / "s" / folder / name).write_bytes(b"junk")
    quarantine(store, held=())
    assert store.committed() == set() and store.set_aside_notes == []
    assert query.load(tmp_path, "s").notes == ()
    for folder in ("diffusion", "samples"):
        (tmp_path / folder / name).mkdir(parents=True)
    storage = Storage.open(tmp_path)
    assert len(diffusion_command.build_table(storage)) == len(samples_command.build_table(storage)) == 1


@pytest.mark.parametrize("name", ["..", "../x", "a/b", "/etc", "a\\b", ".hidden", "", "a\0b", "a\nb"])
def test_names_cannot_leave_the_storage(name: str, tmp_path: Path) -> None:
    storage = Storage.open(tmp_path / "storage")
    store = SweepStore(storage, "s")
    for use in (
        lambda: SweepStore(storage, name),
        lambda: store.write_figure(name, b"x"),
        lambda: store.write_model(name, b"x"),
        lambda: store.commit_trials(name, []),
        lambda: open_stream(storage, name),
    ):
        with pytest.raises(SpecError):
            use()
    assert [path.name for path in tmp_path.iterdir()] == ["storage"]
    assert list((tmp_path / "storage").iterdir()) == []


@pytest.mark.parametrize(
    "text",
    ["{}", "[]", "3", "null", '{"trials": [3]}', '{"trials": {}, "x": 1', '{"trials": [{"nc": "x"}]}', DEEP],
    ids=lambda text: text[:20],
)
def test_a_damaged_declaration_is_one_line(text: str, tmp_path: Path) -> None:
    store = SweepStore(Storage.open(tmp_path), "s")
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "sweep.json").write_text(text)
    if text in ("null",):
        assert len(figures.load_tables(store, ("last",))[0].last) == 0
        return
    _, notes = figures.load_tables(store, ("last",))
    (note,) = notes
    assert "sweep.json" in note and "all trials of the folder are used" in note and "\n" not in note


@pytest.mark.parametrize(
    "text", ["{}", "[]", '{"trial_ids": 5}', '{"trial_ids": [{}]}', "junk", DEEP], ids=lambda t: t[:9]
)
def test_a_damaged_list_of_members_is_set_aside(text: str, tmp_path: Path) -> None:
    store = SweepStore(Storage.open(tmp_path), "s")
    for bundle in ("good", "poor"):
        store.write_checkpoint(bundle, b"x")
        store.write_checkpoint_members(bundle, ["t1", "t2"])
    (tmp_path / "s" / "checkpoints" / "poor.json").write_text(text)
    assert store.started_bundles() == {"good": ["t1", "t2"]}
    assert "poor.json was set aside: it does not say which trials" in store.set_aside_notes[0]


@pytest.mark.parametrize(
    "text", ["[]", "3", '{"stream": 3}', '{"stream": {"diffusion": []}}', DEEP], ids=lambda t: t[:9]
)
def test_damaged_facts_of_models_and_samples_are_said(text: str, tmp_path: Path) -> None:
    for folder, files in (("samples/s", ["stream.json"]), ("diffusion/d", ["spec.json", "weights.json"])):
        (tmp_path / folder).mkdir(parents=True)
        for file in files:
            (tmp_path / folder / file).write_text(text)
    storage = Storage.open(tmp_path)
    assert diffusion_command.build_table(storage)[1][:2] == ["d", "damaged"]
    assert samples_command.build_table(storage)[1][:2] == ["s", "damaged"]


def test_a_checkpoint_with_a_right_digest_and_wrong_values_is_one_line() -> None:
    tensors = {"a": torch.zeros(2)}
    for text in (DEEP, "{", "\x00"):
        data = safetensors.torch.save(tensors, {"values": text, "sha256": serialization.digest(tensors, text)})
        with pytest.raises(DataFormatError, match="is not a whole checkpoint"):
            serialization.unpack(data, "file")


SECRET = "wJalrXUtnFEMI"
URIS = [f"s3://KEY:{SECRET}@buc ket/x", f"s3://KEY:{SECRET}/x@bucket/x", f"s3://bucket/x?secret_key={SECRET}"]
URIS += [f"s3://KEY:{SECRET}@bucket/x%zz", f"s3://KEY:{SECRET}@/x", f"gs://{SECRET}@bucket/x", f"ftp://u:{SECRET}@h/x"]


@pytest.mark.parametrize("uri", URIS)
def test_no_message_shows_the_key_in_a_uri(uri: str) -> None:
    with pytest.raises(VaegenError) as caught:
        Storage.open(uri)
    assert SECRET not in str(caught.value)


def test_the_name_of_a_storage_has_no_key() -> None:
    storage = Storage.open(f"s3://KEY:{SECRET}@bucket/x?endpoint_override=127.0.0.1:1&scheme=http")
    assert storage.name == "s3://bucket/x"
    assert SECRET not in repr(storage)
