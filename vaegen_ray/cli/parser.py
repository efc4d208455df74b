"""All commands in one parser."""

from vaegen_ray import __version__
from vaegen_ray.cli import (
    check,
    claims,
    compare,
    completion,
    dashboard,
    datasets,
    diffusion,
    doctor,
    figure,
    results,
    samples,
    status,
    tensorboard,
)
from vaegen_ray.launch.options import OneLineParser

GROUPS = (
    status,
    dashboard,
    tensorboard,
    results,
    compare,
    figure,
    claims,
    datasets,
    diffusion,
    samples,
    check,
    doctor,
    completion,
)
"""Modules with ``add(commands)``, in the order in which ``--help`` lists their commands."""


def parser() -> OneLineParser:
    """The parser of ``vaegen``; what it parses has ``command``, a function from the options to the exit code."""
    made = OneLineParser(prog="vaegen", description="Does this VAE generalise, and what would help more?")
    made.add_argument("--version", action="version", version=f"vaegen {__version__}")
    commands = made.add_subparsers(required=True, metavar="COMMAND")
    for group in GROUPS:
        group.add(commands)
    return made
