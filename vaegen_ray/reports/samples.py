"""The picture of a diffusion model's first samples."""

import numpy as np

from vaegen_ray.figures import samples
from vaegen_ray.figures.style import to_bytes
from vaegen_ray.results.diffusions import DiffusionStore
from vaegen_ray.spec.diffusion import DiffusionSpec


def write_preview(store: DiffusionStore, spec: DiffusionSpec, images: np.ndarray) -> str:
    """Draws the first samples of a model, uint8 [N, C, H, W], and writes them beside its weights; returns the path."""
    title = f"Samples of an EDM trained on {spec.n_train:,} images of {spec.dataset}"
    facts = f"{spec.network}, {spec.images:,} images seen, seeds 0 to {len(images) - 1}"
    return store.write_picture(to_bytes(samples.draw(images, spec.levels, title=title, facts=facts), "png"))
