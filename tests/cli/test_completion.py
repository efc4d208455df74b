"""Completion in real shells."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from vaegen_ray.cli import main
from vaegen_ray.cli.parser import GROUPS

Complete = Callable[[str], list[str]]

BASH = """
eval "$(vaegen completion bash)"
complete -p vaegen >&2
function=$(complete -p vaegen | sed 's/.*-F \\([^ ]*\\).*/\\1/')
COMP_LINE=$LINE COMP_POINT=${#LINE} COMP_TYPE=9 COMP_WORDS=($LINE)
[ "${LINE: -1}" = " " ] && COMP_WORDS+=("")
COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
$function vaegen
printf '%s\\n' "${COMPREPLY[@]}"
"""
"""What bash does at a Tab, with what it says of the command before."""

ZSH = """
zmodload zsh/zpty
zpty shell zsh -f -i
zpty -w shell 'autoload -U compinit; compinit -u -D; eval "$(vaegen completion zsh)"; print "REA""DY"'
zpty -r -m shell seen '*READY*'
zpty -n -w shell "$LINE"$'\\t'
zpty -r -m shell seen "*$WANTED*"
"""
"""A Tab in a terminal of zsh; ends when what is wanted stands there."""

needs_bash, needs_zsh, needs_fish = (
    pytest.mark.skipif(shutil.which(shell) is None, reason=f"{shell} is not installed; tests/install.sh installs it")
    for shell in ("bash", "zsh", "fish")
)


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Of a shell in which ``vaegen`` is a command, with two sweeps in ``$VAEGEN_STORAGE``."""
    (tmp_path / "bin").mkdir()
    command = tmp_path / "bin" / "vaegen"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m vaegen_ray.cli "$@"\n')
    command.chmod(0o755)
    for name in ("double_descent", "double_trouble", "samples", "double_descent.old-1"):
        (tmp_path / "runs" / name / "trials").mkdir(parents=True)
    (tmp_path / "others" / "elsewhere" / "trials").mkdir(parents=True)
    path = f"{command.parent}:{os.environ['PATH']}"
    data = {"VAEGEN_DATA": str(tmp_path / "data")}
    return {
        **os.environ,
        **data,
        "PATH": path,
        "VAEGEN_STORAGE": str(tmp_path / "runs"),
        "OTHERS": str(tmp_path / "others"),
    }


def asked(shell: list[str], environment: dict[str, str], **more: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(shell, env={**environment, **more}, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    return done


@needs_bash
@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("vaegen re", {"results"}),
        ("vaegen results ", {"double_descent", "double_trouble"}),
        ("vaegen status double_t", {"double_trouble"}),
        ("vaegen compare double_descent ", {"double_descent", "double_trouble"}),
        ("vaegen compare double_descent --storage-b $OTHERS ", {"elsewhere"}),
        ("vaegen results --storage $OTHERS ", {"elsewhere"}),
        ("vaegen results --storage /nowhere ", set()),
        ("vaegen datasets --get di", {"digits"}),
        ("vaegen samples --dataset fa", {"fashion_mnist"}),
        ("vaegen diffusion train --preset ", {"smoke", "laptop", "paper"}),
        ("vaegen figure sy", {"synthetic_budget"}),
        ("vaegen results double_descent --by nc,lear", {"nc,learning_rate"}),
        ("vaegen results double_descent --metrics elbo_tes", {"elbo_test"}),
        ("vaegen results double_descent --e", {"--epoch"}),
        ("vaegen completion ", {"bash", "zsh", "fish"}),
    ],
)
def test_bash(environment: dict[str, str], line: str, wanted: set[str]) -> None:
    done = asked(["bash", "--norc", "-c", BASH], environment, LINE=line.replace("$OTHERS", environment["OTHERS"]))
    assert done.stderr.startswith("complete ") and len(done.stderr.splitlines()) == 1, done.stderr
    assert {word.strip() for word in done.stdout.splitlines() if word.strip()} == wanted


@needs_bash
def test_data_sets_of_your_own_are_completed(environment: dict[str, str], tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.eye(8, dtype=np.uint8).reshape(8, 1, 8).repeat(8, axis=1))
    asked(["vaegen", "datasets", "--add", "of_mine", str(tmp_path / "x.npy")], environment)
    for line in ("vaegen doctor --dataset of_", "vaegen datasets --get of_", "vaegen samples --dataset of_"):
        done = asked(["bash", "--norc", "-c", BASH], environment, LINE=line)
        assert done.stdout.split() == ["of_mine"]
    done = asked(["bash", "--norc", "-c", BASH], environment, LINE="vaegen datasets --data-dir /nowhere --get of_")
    assert done.stdout.split() == []


@needs_bash
def test_bash_completes_all_commands(environment: dict[str, str]) -> None:
    done = asked(["bash", "--norc", "-c", BASH], environment, LINE="vaegen ")
    assert set(done.stdout.split()) == {group.__name__.rpartition(".")[2] for group in GROUPS}


@needs_zsh
@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("vaegen compl", "completion"),
        ("vaegen results double_t", "double_trouble"),
        ("vaegen datasets --get di", "digits"),
    ],
)
def test_zsh(environment: dict[str, str], line: str, wanted: str) -> None:
    asked(["zsh", "-f", "-c", ZSH], environment, LINE=line, WANTED=wanted)


@needs_fish
def test_fish(environment: dict[str, str]) -> None:
    said = 'vaegen completion fish | source; complete -C "vaegen results "'
    done = asked(["fish", "--no-config", "-c", said], environment)
    assert done.stdout.split() == ["double_descent", "double_trouble"]


def test_another_shell_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", "tcsh"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
