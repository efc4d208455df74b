"""What cannot be is one line that says what can, and exit code 2; an unknown name suggests the nearest."""

import importlib.util
from collections.abc import Callable
from pathlib import Path

import pytest

from vaegen_ray.bundle.cost import CPU_CORE, H200
from vaegen_ray.cli import main
from vaegen_ray.errors import SpecError, nearest
from vaegen_ray.exit import LONGEST
from vaegen_ray.figures import FIGURES
from vaegen_ray.launch.main import main as main_of_sweep
from vaegen_ray.results.storage import Storage
from vaegen_ray.results.store import SweepStore
from vaegen_ray.service.cluster import resources
from vaegen_ray.spec.trial import TrialSpec

SWEEPS = Path(__file__).parents[2] / "sweeps"
HUGE = "99999999999999999999"


@pytest.fixture(scope="module")
def double_descent() -> Callable[..., int]:
    spec = importlib.util.spec_from_file_location("double_descent", SWEEPS / "double_descent.py")
    assert spec is not None and spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    return lambda *argv: main_of_sweep(script.declare, "", script.add_options, ["--preset", "smoke", *argv])


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--storage", ""], "argument --storage: must not be empty"),
        (["--storage", " "], "a storage must be a directory or a URI, such as s3://bucket/folder; got ' '"),
        (["--storage", "s3:/x"], "a storage must be a directory or a URI, such as s3://bucket/folder; got 's3:/x'"),
        (["--storage", "s3://"], "a storage in an object store needs a bucket"),
        (["--storage", "/dev/full"], "it is a file, not a directory"),
        (["--nc", HUGE], "argument --nc: must be whole numbers"),
        (["--nc", "99999999"], "nc must be a whole number >= 1 and <= 1048576; got 99999999"),
        (["--nc", "4,4"], "argument --nc: must be whole numbers"),
        (["--gpus", "2"], "--gpus goes with --dry-run alone"),
        (["--tensorboard", "/proc/x"], "event files need a folder that can be written; got '/proc/x'"),
        (["--tensorboard", "/dev/full"], "event files need a folder that can be written; got '/dev/full'"),
        (["--tensorboard", "s3:/x"], "argument --tensorboard: must be a folder of this machine; got 's3:/x'"),
        (["--data-dir", "s3://x/y"], "argument --data-dir: must be a folder of this machine; got 's3://x/y'"),
        (["--dataset", ""], "argument --dataset: must not be empty"),
        (["--seeds", "nan"], "argument --seeds: must be a whole number >= 1; got 'nan'"),
        (["--samplers", f"1:{HUGE}"], "argument --samplers: must be MIN:MAX"),
        (["--diffusion-fraction", "nan"], "argument --diffusion-fraction: must be a number from 0.1 to 1"),
        (["--dataset", "x" * 100_000], "dataset must be one of"),
        (["--dataset", "\udcff\x1b[2J"], "dataset must be one of"),
        (["--dataset", "digit"], "got 'digit' (did you mean 'digits'?)"),
        (["--dataset", "MNIST"], "got 'MNIST' (did you mean 'mnist'?)"),
        (["--likelihood", "bernouli"], "(did you mean 'bernoulli'?)"),
        (["--architecture", "fully_conected"], "(did you mean 'fully_connected'?)"),
        (["--methods", "normal,dmapx"], "(did you mean 'dmaapx'?)"),
        (["--seedz", "3"], "unrecognized arguments: --seedz 3 (did you mean '--seeds'?)"),
        (["--dry=1"], "unrecognized arguments: --dry=1 (did you mean '--dry-run'?)"),
    ],
)
def test_a_sweep_refuses_it_in_one_line(
    argv: list[str],
    said: str,
    double_descent: Callable[..., int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert double_descent(*argv) == 2
    out, err = capsys.readouterr()
    assert out == "" and len(err.splitlines()) == 1 and len(err) <= LONGEST + 50
    assert err.startswith("error: ") and said in err and err.rstrip("\n").isprintable()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["statuss"], "(did you mean 'status'?)"),
        (["diffusion", "trian"], "(did you mean 'train'?)"),
        (["status", "--stroage=x"], "unrecognized arguments: --stroage=x (did you mean '--storage'?)"),
        (["diffusion", "list", "--storge=x"], "(did you mean '--storage'?)"),
        (["status", "digts"], "no sweep 'digts' in "),
        (["status", "digts"], "(did you mean 'digits'?)"),
        (["results", "digts"], "(did you mean 'digits'?)"),
        (["results", "digits", "--by", "ncc"], "such as nc"),
        (["results", "digits", "--output", ""], "argument --output: must not be empty"),
        (["results", "digits", "--output", "s3:/x/y.csv"], "got 's3:/x'"),
        (["results", "digits", "--format", "cvs"], "(did you mean 'csv'?)"),
        (["results", "digits", "--epoch", "-1"], "argument --epoch: "),
        (["compare", "digits", "digits", "--storage-b", ""], "argument --storage-b: must not be empty"),
        (["compare", "digits", "digitss"], "(did you mean 'digits'?)"),
        (["figure", "double_descnt"], "got 'double_descnt' (did you mean 'double_descent'?)"),
        (["figure", "search", "--sweep", "digits"], ""),
        (["figure", "information", "--sweep", "digits"], ""),
        (["tensorboard", "digts", "runs"], "(did you mean 'digits'?)"),
        (["tensorboard", "digits", "/proc/x"], "/proc/x"),
        (["claims", "--markdown", "/dev/full"], ""),
        (["samples", "--dataset", "digits", "--generate", HUGE], "argument --generate: must be a whole number <= "),
        (["diffusion", "train", "--dataset", "digit"], "(did you mean 'digits'?)"),
        (["diffusion", "import", "/dev/full", "--dataset", "digits"], ""),
        (["datasets", "--get", "digit"], "(did you mean 'digits'?)"),
        (["datasets", "--add", "x", "/proc/self/mem"], ""),
        (["status", "--watch", HUGE], "argument --watch: must be a whole number <= "),
        (["dashboard", "--port", "65536"], "argument --port: must be a port"),
        (["dashboard", "--host", "not a host"], ""),
        (["completion", "bsh"], "(did you mean 'bash'?)"),
    ],
)
def test_a_command_refuses_it_in_one_line(
    argv: list[str],
    said: str,
    write: Callable[..., SweepStore],
    storage: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write("digits", [TrialSpec(nc=nc, seed=seed) for nc in (4, 8) for seed in (0, 1)], lambda spec, _: float(spec.nc))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VAEGEN_STORAGE", str(storage))
    monkeypatch.setenv("VAEGEN_DATA", str(tmp_path / "data"))
    assert main(argv) == 2
    out, err = capsys.readouterr()
    assert out == "" and len(err.splitlines()) == 1, out + err
    assert err.startswith("error: ") and said in err


@pytest.mark.parametrize("name", sorted(FIGURES))
def test_a_figure_is_drawn_or_refused_in_one_line(
    name: str, write: Callable[..., SweepStore], storage: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    specs = [TrialSpec(nc=nc, seed=seed) for nc in (4, 8) for seed in (0, 1)]
    write("digits", specs, lambda spec, _: float(spec.nc), more=dict.fromkeys(("elbo_train", "rate_test"), 1.0))
    code = main(["figure", name, "--sweep", "digits", "--storage", str(storage)])
    err = capsys.readouterr().err
    drawn = any((storage / "digits" / "figures").glob("*"))
    assert (code, drawn, len(err.splitlines())) in ((0, True, 0), (2, False, 1)), err


def test_precisions_of_gpus_are_refused_without_one() -> None:
    resources.check_precision(["float32"], CPU_CORE)
    resources.check_precision(["float32", "tf32", "bf16"], H200)
    with pytest.raises(SpecError, match="^precision must be float32 where there is no GPU; got bf16$"):
        resources.check_precision(["float32", "bf16"], CPU_CORE)


@pytest.mark.slow
def test_a_sweep_in_a_precision_of_gpus_is_refused_on_a_cpu(
    double_descent: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert double_descent("--precision", "bf16", "--storage", str(tmp_path)) == 2
    assert capsys.readouterr().err == "error: precision must be float32 where there is no GPU; got bf16\n"
    assert not (tmp_path / "double_descent" / "trials").exists()


def test_the_nearest_name_is_one_that_is_like_it() -> None:
    assert nearest("Digits", ["mnist", "digits"]) == " (did you mean 'digits'?)"
    assert nearest("xyz", ["mnist", "digits"]) == nearest(4, ["4"]) == nearest("a", []) == ""


def test_a_storage_is_no_scheme_with_one_slash(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="a storage must be a directory or a URI"):
        Storage.open("file:/x")
    assert Storage.open(tmp_path / "s3:x", create=False).is_local
