"""``vaegen tensorboard``."""

from vaegen_ray.cli.parts import Commands, command
from vaegen_ray.dashboard import tensorboard


def add(commands: Commands) -> None:
    """Adds the command."""
    tensorboard.add_options(command(commands, "tensorboard", tensorboard.run, tensorboard.SUMMARY))
