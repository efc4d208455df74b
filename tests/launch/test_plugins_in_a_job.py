"""Code of your own in jobs: `ray job submit` with a file named by a relative path, and by an absolute one elsewhere."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pandas as pd
import pytest

from vaegen_ray.results import query
from vaegen_ray.spec.trial import TrialSpec

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "own_data_and_network.py"
VERSION = 3
ALONE = [
    *("unshare", "--net", "--pid", "--mount", "--fork", "--kill-child", "--mount-proc"),
    *("sh", "-c", 'ip link set lo up && exec "$0" "$@"'),
]
"""Away from every other Ray on this machine: jobs go through an agent on a fixed port, and Ray finds the cluster of a
job by a look at all processes."""
JOBS = """
import json, subprocess, sys, ray
head = ray.init("local", num_cpus=2, include_dashboard=True, object_store_memory=10**8)
for command in json.loads(sys.argv[1]):
    submit = [sys.executable, "-c", "from ray.scripts.scripts import main; main()", "job", "submit"]
    done = subprocess.run([*submit, "--address", f"http://{head.dashboard_url}", *command])
    print("exit code", done.returncode, flush=True)
ray.shutdown()
"""


@pytest.mark.slow
@pytest.mark.skipif(
    shutil.which("unshare") is None or subprocess.run([*ALONE, "true"], capture_output=True).returncode != 0,
    reason="needs the right to make networks (root on Linux)",
)
def test_a_job_trains_with_a_file_from_its_folder_or_from_elsewhere(tmp_path: Path) -> None:
    """The network needs a module beside it in a subfolder, which workers cannot import by its name."""
    project, sweeps, elsewhere = (tmp_path / name for name in ("project", "sweeps", "elsewhere"))
    (project / "nets").mkdir(parents=True)
    for folder in (sweeps, elsewhere):
        folder.mkdir()
    for folder in (project, sweeps):
        shutil.copy(ROOT / "sweeps" / "double_descent.py", folder)
    text = EXAMPLE.read_text().replace("(h).tanh() *", "(h).multiply(beside_mine.half()) *")
    text = text.replace("version=1", f"version={VERSION}")
    assert "beside_mine" in text and f"version={VERSION}" in text
    (project / "nets" / "mine.py").write_text(text.replace("import argparse", "import argparse\nimport beside_mine"))
    (project / "nets" / "beside_mine.py").write_text("def half():\n    return 0.5\n")

    options = ["--dataset", "patches", "--architecture", "gated", "--n-train", "100", "--preset", "smoke"]
    sweep = ["python", "double_descent.py"]
    jobs = []
    for folder, file in ((project, "nets/mine.py"), (sweeps, str(project / "nets" / "mine.py"))):
        storage = str(tmp_path / f"results-{folder.name}")
        command = [*sweep, "--import", file, *options, "--storage", storage]
        jobs.append(["--working-dir", str(folder), "--", *command])
    wrong = [*sweep, "--import", "nets/absent.py", *options, "--storage", str(tmp_path / "none")]
    jobs.append(["--working-dir", str(project), "--", *wrong])

    home = tmp_path / "home"
    (home / ".ray").mkdir(parents=True, mode=0o700)
    token = home / ".ray" / "auth_token"
    token.write_text("0123456789abcdef" * 4)
    token.chmod(0o600)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "VAEGEN_"))}
    with tempfile.TemporaryDirectory(prefix="vr-", ignore_cleanup_errors=True) as short:  # for the names of sockets
        ray = {"RAY_TMPDIR": short, "RAY_AUTH_MODE": "token", "RAY_USAGE_STATS_ENABLED": "0"}
        own = {"HOME": str(home), "PYTHONPATH": str(ROOT), "VAEGEN_DATA": str(tmp_path / "data")}
        own["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        done = subprocess.run(
            [*ALONE, sys.executable, "-c", JOBS, json.dumps(jobs)],
            capture_output=True,
            text=True,
            timeout=900,
            cwd=elsewhere,  # where a relative path would be wrong
            env={**kept, **ray, **own},
        )
    said = done.stdout + done.stderr
    codes = [line.split()[-1] for line in done.stdout.splitlines() if line.startswith("exit code")]
    assert len(codes) == 3 and codes[:2] == ["0", "0"] and codes[2] != "0", said
    assert said.count("12/12 VAEs of double_descent") == 2, said
    assert "--import must be a Python file; got 'nets/absent.py', which is looked for as " in said, said

    both = []
    for folder in (project, sweeps):
        trials = query.load(tmp_path / f"results-{folder.name}", "double_descent").last().sort_values("trial_id")
        assert len(trials) == 12 and set(trials["architecture"]) == {"gated"}
        assert set(trials["network_version"]) == {VERSION} and trials["data_digest"].str.fullmatch("[0-9a-f]{20}").all()
        for trial_id, spec in zip(trials["trial_id"], trials["spec_json"], strict=True):
            fields = {name: part for name, part in json.loads(spec).items() if name in TrialSpec.__dataclass_fields__}
            known = TrialSpec.from_dict(fields)
            assert known.network_version == VERSION and known.trial_id == trial_id
        both.append(trials[["trial_id", "params_total", "elbo_train", "elbo_test"]].reset_index(drop=True))
    pd.testing.assert_frame_equal(*both, check_exact=False, rtol=1e-4)  # where a file lies is no part of a trial
