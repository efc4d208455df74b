"""From the storage's rows to the storage's pictures."""

from vaegen_ray import figures
from vaegen_ray.errors import VaegenError
from vaegen_ray.results.store import SweepStore
from vaegen_ray.trial import TrialSpec


def draw_figures(store: SweepStore, names: tuple[str, ...]) -> list[str]:
    """Draws figures from the Parquet files alone, as PNG and PDF; says and returns where they are."""
    if not names:
        return []
    from vaegen_ray.figures.style import to_bytes
    from vaegen_ray.results import query

    results = query.load(store.storage, store.name)
    for note in results.notes:
        print(note)
    rows = results.last()
    declared = store.read_sweep_json()
    if declared is not None:  # a folder may also hold trials of an earlier declaration, with other sizes
        ids = {TrialSpec.from_dict(each).trial_id for each in declared["trials"]}
        rows = rows[rows["trial_id"].isin(ids)]
    written = []
    for name in names:
        try:
            pictures = figures.draw(name, rows)
        except VaegenError as error:
            print(f"figure {name} was not drawn: {error}")
            continue
        for stem, picture in pictures.items():
            for kind in ("png", "pdf"):
                written.append(store.write_figure(f"{stem}.{kind}", to_bytes(picture, kind)))
            print(f"figure {written[-2]}")
    return written
