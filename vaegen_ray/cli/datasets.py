"""``vaegen datasets``."""

import argparse

from vaegen_ray.cli.completers import dataset_names
from vaegen_ray.cli.parts import Commands, add_data_dir, command, completes, say
from vaegen_ray.cli.tables import aligned
from vaegen_ray.launch import plugins

WIDTH = 100
"""Columns of text in which the table of data sets fits."""


def add(commands: Commands) -> None:
    """Adds the command."""
    made = command(commands, "datasets", run, "list the data sets, get one, or add one of your own")
    get = made.add_argument("--get", metavar="NAME", help="download this one, or check it where it is here")
    completes(get, dataset_names)
    plugins.add_options(made)
    add_data_dir(made)


def run(options: argparse.Namespace) -> int:
    """Lists the data sets, gets one, adds or removes one."""
    from vaegen_ray.data import catalog

    if plugins.change(options, say):
        return 0
    if options.get:
        split = catalog.load(options.get, data_dir=options.data_dir)
        where = catalog.presence(options.get, options.data_dir).where
        print(f"{options.get}: {len(split.train)} training and {len(split.test)} test images in {where}")
        return 0
    rows = catalog.table(options.data_dir)
    head = ("name", "present", "images", "levels", "likelihood", "title")
    print(aligned([head, *([row[column] for column in head] for row in rows)], WIDTH))
    if absent := [row for row in rows if row["present"] == "no"]:
        print("\nto get the others:")
        print(aligned([[f"  {row['name']}", row["how"]] for row in absent]))
    return 0
