"""Keys in a URI are shown nowhere: not by any command or sweep, whatever option they stand in, and in no file."""

import argparse
import importlib.util
import io
import json
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from vaegen_ray.cli import main
from vaegen_ray.cli.parser import parser
from vaegen_ray.errors import mask_secrets
from vaegen_ray.launch import options as shared
from vaegen_ray.launch.main import main as main_of_sweep
from vaegen_ray.launch.output import MaskedStream, console
from vaegen_ray.results.storage import Storage
from vaegen_ray.results.store import SweepStore
from vaegen_ray.spec.trial import TrialSpec

KEY, SECRET = "AKIAIOSFODNN7", "wJalrXUtnFEMI"
URIS = (
    f"s3://{KEY}:{SECRET}@bucket/x.csv?nonsense=1",
    f"s3://bucket/x.csv?access_key={KEY}&secret_key={SECRET}&nonsense=1",
    f"ftp://{KEY}:{SECRET}/{SECRET}@bucket/x.csv",
    f"s3:/{KEY}:{SECRET}@bucket/x.csv",
    f"s3://{KEY}x:{SECRET}",
)
"""No storage can be opened there, so every command ends at once, and says why."""


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("s3://K:S@bucket/x?region=eu", "s3://***@bucket/x?region=eu"),
        ("got 's3://K:S/T+U@b/x', or", "got 's3://***@b/x', or"),
        ("s3://bucket?access_key=K&region=x&secret_key=S", "s3://bucket?access_key=***&region=x&secret_key=***"),
        ("https://h/x?X-Amz-Security-Token=T&X-Amz-Signature=S", "https://h/x?X-Amz-Security-Token=***&X-Amz-Signature=***"),
        ("/home/me/s3:/K:S@b", "/home/me/s3:/***@b"),
        ("gs://S@bucket", "gs://***@bucket"),
        ("s3://K:S", "s3://K:***"),
        ('{"storage": "s3://K:S@b", "x": 1}', '{"storage": "s3://***@b", "x": 1}'),
        *((text, text) for text in ("http://127.0.0.1:8050 (Ctrl-C ends it)", "ray://10.0.0.1:10001", "tcp://[::1]:80")),
        *((text, text) for text in ("file:///home/me@home/x", "s3://bucket/x: not found", "C:/x:y", "a@b.org")),
    ],
)  # fmt: skip
def test_secrets_are_masked_and_nothing_else(text: str, masked: str) -> None:
    assert mask_secrets(text) == masked


def _commands(made: argparse.ArgumentParser, names: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    inner = [action for action in made._actions if isinstance(action, argparse._SubParsersAction)]
    if not inner:
        yield names, made
    for action in inner:
        for name, each in action.choices.items():
            yield from _commands(each, (*names, name))


def _with_uri(made: argparse.ArgumentParser, uri: str) -> Iterator[list[str]]:
    """Arguments in which every option and argument that takes a text holds the URI, one at a time."""
    needed = [action for action in made._actions if action.required and action.option_strings]
    takes = [action for action in made._actions if action.nargs != 0 and not isinstance(action, argparse._HelpAction)]
    positionals = [action for action in takes if not action.option_strings]
    for chosen in takes:
        argv = [uri if action is chosen else "digits" for action in positionals]
        for action in {*needed, chosen} - {*positionals}:
            count = action.nargs if isinstance(action.nargs, int) else 1
            argv += [action.option_strings[0], *[uri if action is chosen else "digits"] * count]
        yield argv


def _assert_no_secret(text: str, folder: Path) -> None:
    assert SECRET not in text
    for path in folder.rglob("*"):
        assert SECRET not in str(path)
        assert path.is_dir() or SECRET.encode() not in path.read_bytes()


@pytest.mark.parametrize(
    "command", [pytest.param(names, id=" ".join(names)) for names, _ in _commands(parser()) if names != ("doctor",)]
)
def test_no_command_shows_a_secret(
    command: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    write: Callable[..., SweepStore],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VAEGEN_STORAGE", str(tmp_path / "runs"))
    monkeypatch.setenv("VAEGEN_DATA", str(tmp_path / "data"))
    write("digits", [TrialSpec(nc=nc) for nc in (4, 8)], lambda spec, _: float(spec.nc))
    made = dict(_commands(parser()))[command]
    tried = 0
    for uri in URIS:
        for argv in _with_uri(made, uri):
            more = ["--generate", "1"] if command == ("samples",) and "--generate" not in argv else []
            code = main([*command, *argv, *more])
            out, err = capfd.readouterr()
            _assert_no_secret(out + err, tmp_path)
            assert code == 2 and len(err.splitlines()) == 1 and err.startswith("error: "), (argv, out, err)
            tried += 1
    assert tried >= len(URIS)


@pytest.mark.parametrize(("option", "code"), [("--storage", 1), ("--address", 2)])
def test_the_doctor_shows_no_secret(option: str, code: int, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--storage", str(tmp_path), option, URIS[0]]) == code
    out, err = capfd.readouterr()
    assert "***@bucket" in out + err and SECRET not in out + err


@pytest.mark.parametrize("name", ["double_descent", "search", "rate_distortion"])
def test_no_sweep_shows_a_secret(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    spec = importlib.util.spec_from_file_location(name, Path(__file__).parents[2] / "sweeps" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    made = shared.parser("a sweep")
    script.add_options(made)
    run = {"run": script.run} if hasattr(script, "run") else {}
    for uri in URIS:
        for argv in _with_uri(made, uri):
            dry = [] if argv[0] == "--address" else ["--dry-run"]
            code = main_of_sweep(script.declare, "", script.add_options, ["--preset", "smoke", *argv, *dry], **run)
            out, err = capfd.readouterr()
            _assert_no_secret(out + err, tmp_path)
            assert code == 2 or argv[0] == "--address", (argv, out, err)


def test_what_is_written_as_json_has_no_secret(tmp_path: Path) -> None:
    storage = Storage.open(tmp_path)
    store = SweepStore(storage, "s")
    store.write_sweep_json({"options": {"data_dir": URIS[0], "imports": [URIS[1]]}, "trials": []})
    store.write_status({"preparing": f"no such place: {URIS[0]}"})
    store.write_given_up("b", [], f"StorageError: {URIS[1]}", 4)
    _assert_no_secret("", tmp_path)
    assert json.loads((tmp_path / "s" / "sweep.json").read_text())["options"]["imports"] == [mask_secrets(URIS[1])]


def test_logs_and_tracebacks_have_no_secret() -> None:
    program = (
        "import logging\n"
        "from vaegen_ray.launch.output import console\n"
        "@console()\n"
        "def main():\n"
        f"    logging.warning('%s', {URIS[0]!r})\n"
        f"    raise OSError({URIS[0]!r}.replace('x.csv', 'y'))\n"
        "main()\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert "Traceback" in done.stderr and "WARNING:root:s3://***@bucket/x.csv" in done.stderr
    assert "OSError: s3://***@bucket/y" in done.stderr and SECRET not in done.stdout + done.stderr


def test_a_masked_stream_is_otherwise_the_stream_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii", write_through=True)
    monkeypatch.setattr(sys, "stdout", stream)
    with console(), console():
        assert isinstance(sys.stdout, MaskedStream) and sys.stdout.encoding == "ascii"
        print(f"1 · 2, {URIS[0]}, \udcff")
        assert pickle.loads(pickle.dumps(sys.stdout)) is sys.stdout, "another process writes to its own"
    assert sys.stdout is stream
    assert raw.getvalue() == b"1 \\xb7 2, s3://***@bucket/x.csv?nonsense=1, \\udcff\n"
