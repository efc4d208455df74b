"""``vaegen dashboard``."""

from vaegen_ray.cli.parts import Commands, command
from vaegen_ray.dashboard import command as dashboard


def add(commands: Commands) -> None:
    """Adds the command."""
    dashboard.add_options(command(commands, "dashboard", dashboard.run, dashboard.SUMMARY))
