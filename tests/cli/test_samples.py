"""``vaegen diffusion`` and ``vaegen samples`` as a user types them; each starts Ray at most once."""

import hashlib
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from vaegen_ray.cli import main

SMALL = ("--dataset", "digits", "--preset", "smoke", "--images", "2000")


def vaegen(*arguments: str) -> subprocess.CompletedProcess[str]:
    code = "import sys; from vaegen_ray.cli import main; sys.exit(main())"
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=900)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["diffusion", "train"], "--dataset"),
        (["diffusion", "train", "--dataset", "imagenet"], "dataset must be one of digits, mnist5k"),
        (["diffusion", "train", "--dataset", "digits", "--fraction", "0.01"], "'0.01'"),
        (["diffusion", "train", "--dataset", "digits", "--n-train", "1001"], "got 1001"),
        (["diffusion", "train", "--dataset", "digits", "--n-train", "10", "--fraction", "0.5"], "not allowed with"),
        (["diffusion", "import", "nowhere.safetensors", "--dataset", "digits"], "there is no file nowhere.safetensors"),
        (["samples", "--generate", "0"], "'0'"),
        (["samples", "--generate", "10"], "--generate needs --dataset"),
        (["samples", "--dataset", "imagenet"], "dataset must be one of digits, mnist5k"),
        (["samples", "--generate", "10", "--dataset", "digits", "--samplers", "2:1"], "'2:1'"),
        (["samples", "--generate", "10", "--dataset", "digits", "--weights", "abc"], "64 hexadecimal digits"),
        (["samples", "--generate", "9999999999", "--dataset", "digits"], "got '9999999999'"),
        (
            ["samples", "--generate", "10", "--dataset", "digits", "--weights", "ab" * 32],
            "vaegen diffusion import FILE",
        ),
    ],
)
def test_a_wrong_input_is_one_line_and_exit_code_2(
    arguments: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*arguments, "--storage", str(tmp_path)]) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and len(captured.err.splitlines()) == 1, captured
    assert said in captured.err


def test_an_empty_storage_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["samples", "--storage", str(tmp_path)]) == 0
    assert main(["diffusion", "list", "--storage", str(tmp_path)]) == 0
    assert main(["samples", "--dataset", "digits", "--storage", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert f"no samples of digits in {tmp_path}/samples" in said
    assert f"no samples in {tmp_path}/samples" in said and f"no diffusion models in {tmp_path}/diffusion" in said


def test_from_training_to_shards_and_an_import_elsewhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = str(tmp_path / "first"), str(tmp_path / "second")
    done = vaegen("samples", "--generate", "500", *SMALL, "--storage", first, "--samplers", "1:2")
    assert done.returncode == 0, done.stdout + done.stderr
    trained = re.findall(
        r"the diffusion model is trained \(1,000 images of digits\): loss \d+\.\d+, .+; (.+)", done.stdout
    )
    assert len(trained) == 1 and Path(trained[0]).parent == tmp_path / "first" / "diffusion", done.stdout
    assert "3 shards of 200 samples" in done.stdout and "3 made now" in done.stdout
    again = vaegen("diffusion", "train", *SMALL, "--storage", first)
    assert again.returncode == 0 and len(again.stdout.splitlines()) == 1, "it is trained already"

    assert main(["samples", "--storage", first]) == 0
    head, row = capsys.readouterr().out.splitlines()
    assert re.split(r"  +", head)[:5] == ["samples", "model", "dataset", "steps", "shards"]
    assert row.split()[2:6] == ["digits", "4", "3", "600"]
    for name, expected in (("digits", [head, row]), ("mnist", [f"no samples of mnist in {first}/samples"])):
        assert main(["samples", "--storage", first, "--dataset", name]) == 0
        assert capsys.readouterr().out.splitlines() == expected
    assert main(["diffusion", "list", "--storage", first]) == 0
    model = capsys.readouterr().out.splitlines()[1].split()
    assert model[1:6] == ["trained", "digits", "1,000", "mlp", "2,000"]

    weights = tmp_path / "first" / "diffusion" / model[0] / "weights.safetensors"
    assert weights.with_name("samples.png").read_bytes().startswith(b"\x89PNG")
    assert main(["diffusion", "import", str(weights), *SMALL, "--storage", second]) == 0
    (picture,) = (tmp_path / "second").glob("diffusion/*/samples.png")
    assert picture.read_bytes().startswith(b"\x89PNG")
    name = re.search(r"--diffusion-weights ([0-9a-f]{64})", capsys.readouterr().out)
    assert name is not None
    done = vaegen("samples", "--generate", "200", *SMALL, "--storage", second, "--weights", name[1])
    assert done.returncode == 0, done.stdout + done.stderr
    shards = [sorted((tmp_path / place / "samples").glob("*/shard-000000.arrow")) for place in ("first", "second")]
    one, two = (hashlib.sha256(found[0].read_bytes()).hexdigest() for found in shards)
    assert one == two, "the same weights, so the same samples under the same name"
    assert shards[0][0].parent.name == shards[1][0].parent.name


def test_a_pickle_is_not_imported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"weight": torch.ones(2)}, tmp_path / "w.pt")
    code = main(["diffusion", "import", str(tmp_path / "w.pt"), *SMALL, "--storage", str(tmp_path)])
    assert code == 2 and "w.pt is not a safetensors file" in capsys.readouterr().err
