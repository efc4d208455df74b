"""The text of a network of your own: what counts as an edit of it."""

import importlib

import pytest

from vaegen_ray.models.registry import CustomNetwork

HELPED = """
from vaegen_ray.models.networks import NetworkPart
import {module}

def width():
    return {width}

class Base(NetworkPart):
    @staticmethod
    def build_layers(spec):
        return width(), {module}.depth()

class Part(Base):
    pass
"""


@pytest.mark.parametrize(
    ("change", "differs"),
    [(("width", "8", "9"), True), (("beside", "1", "2"), True), (("unused", "1", "2"), False)],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_the_source_names_what_the_classes_use_and_nothing_else(change, differs, tmp_path, monkeypatch):
    """A function that says the layers is as much the network as its classes; a preset of the same file is not."""
    monkeypatch.syspath_prepend(tmp_path)
    sources = []
    for i, value in enumerate(change[1:]):
        given = {"width": "8", "beside": "1", "unused": "1"} | {change[0]: value}
        (tmp_path / f"beside_{change[0]}{i}.py").write_text(f"def depth():\n    return {given['beside']}\n")
        text = HELPED.format(module=f"beside_{change[0]}{i}", width=given["width"]) + f"\nUNUSED = {given['unused']}\n"
        text = text.replace(f"import beside_{change[0]}{i}", f"import beside_{change[0]}{i} as beside")
        text = text.replace(f"beside_{change[0]}{i}.depth", "beside.depth")
        (tmp_path / f"helped_{change[0]}{i}.py").write_text(text)
        part = importlib.import_module(f"helped_{change[0]}{i}").Part
        sources.append(CustomNetwork(name="mine", encoder=part, decoder=part).source)
    assert all(sources) and (sources[0] != sources[1]) == differs
