"""What a data set is usually trained with: the part of a trial that does not vary along a sweep."""

from typing import Any

from vaegen_ray.data.catalog import check, info

FULLY_CONNECTED_LATENT = {8: 2, 32: 16}
"""Latent dimensions for each unit of mz, by side of the image: 16 as in xiao2024's fully-connected network on 32x32
images, 2 on 8x8 images, which have a sixteenth of the pixels."""


def base_spec(
    dataset: str, *, architecture: str | None = None, levels: int | None = None, **training: Any
) -> dict[str, Any]:
    """Fields of a ``TrialSpec`` for a data set: images, network, likelihood and optimiser.

    The fully-connected network is trained with Adam at 1e-3, and batches of 50 (embedded data) or 100; the residual
    network, default for colour images, with Adam at 1e-4 and batches of 100. The paper gives no optimiser; these are
    the values of related code.

    Args:
        dataset: name in the catalog.
        architecture: None for the usual one.
        levels: grey levels; None for the usual ones.
        training: further fields, which override: ``n_train``, ``epochs`` and so on.

    Raises:
        SpecError: no such data set, or it does not come with these levels or so many images.
    """
    entry = info(dataset)
    check(dataset, levels, training.get("n_train"))
    levels = levels or entry.default_levels
    architecture = architecture or ("residual" if entry.image_shape[0] == 3 else "fully_connected")
    _, height, width = entry.image_shape
    grid = (height // 4) * (width // 4)
    residual = architecture == "residual"
    small = height <= 8
    return {
        "dataset": dataset,
        "levels": levels,
        "n_train": entry.n_train,
        "image_shape": entry.image_shape,
        "architecture": architecture,
        "latent_per_mz": grid if residual else FULLY_CONNECTED_LATENT.get(height, 16),
        "likelihood": _likelihood(entry.likelihood, levels),
        "learning_rate": 1e-4 if residual else 1e-3,
        "batch_size": 50 if small else 100,
        **training,
    }


def _likelihood(usual: str, levels: int) -> str:
    """Binarised images are Bernoulli; grey levels of a usually binarised data set get a discretised logistic."""
    if levels == 2:
        return "bernoulli"
    return "logistic" if usual == "bernoulli" else usual
