"""What a run needs before it starts: its data sets, its networks, the packages and weights of its evaluations."""

import logging
from dataclasses import replace
from importlib.util import find_spec

import numpy as np

from vaegen_ray.data import catalog
from vaegen_ray.data.images import Split
from vaegen_ray.data.splits import fixed_order
from vaegen_ray.errors import DataMissingError, VaegenError
from vaegen_ray.models.layout import params_total
from vaegen_ray.results.diffusions import DiffusionStore
from vaegen_ray.results.storage import Storage
from vaegen_ray.spec.diffusion import DiffusionSpec
from vaegen_ray.sweep.sweep import Sweep, corruption_severity, data_key

logger = logging.getLogger(__name__)


def check_networks(sweep: Sweep) -> None:
    """Asks the networks of your own about every size that the sweep has of each, and tries them in the smallest one.

    Raises:
        SpecError: one cannot be built, or does not hold what bundles need.
    """
    if not sweep.networks:
        return
    from vaegen_ray.models.conformance import check_network, check_size

    for network in sweep.networks:
        shapes = {s.shape_key: s for s in sweep.trials if s.architecture == network.name}
        for spec in shapes.values():
            check_size(spec)
        check_network(min(shapes.values(), key=params_total))


def check_packages(sweep: Sweep) -> None:
    """Whether what is to be measured has what it needs; a line where weights are not here and columns stay empty.

    Raises:
        VaegenError: a package is not installed.
    """
    wanted = {name for spec in sweep.trials if spec.measures for name in spec.measures.names}
    if "two_sample" in wanted and find_spec("torchvision") is None:
        raise VaegenError("a two-sample test needs torchvision; get it with: pip install 'vaegen-ray[torchvision]'")
    if "sample_quality" in wanted:
        from vaegen_ray.evaluation.sample_quality import inception_weights

        try:
            inception_weights()
        except DataMissingError as error:
            logger.info(f"FID and Inception Score will be left out: {error}")


def is_present(name: str, folder: str | None) -> bool:
    """Whether a data set is on this machine. Files may still be downloaded, an absent package is an error at once."""
    there = catalog.presence(name, folder)
    if not there.present and catalog.info(name).package:
        raise DataMissingError(f"data set {name!r} is not in {there.where}; get it with: {there.how}")
    return there.present


def require_imported(storage: Storage, model: DiffusionSpec) -> None:
    """Whether a model with imported weights is in the storage; others can be trained.

    Raises:
        VaegenError: it is not.
    """
    if model.weights and DiffusionStore(storage, model.diffusion_id).committed() is None:
        raise VaegenError(
            f"no weights {model.weights} for this network in {storage.where('diffusion')}; "
            f"take them first: vaegen diffusion import FILE --dataset {model.dataset}"
        )


def load_images(sweep: Sweep, folder: str | None) -> dict[str, Split]:
    """The images of all trials of a sweep, by ``data_key``.

    Raises:
        DataMissingError: they are not there, or labels that a trial needs.
    """
    splits = {}
    for spec in sweep.datasets:
        size = spec.image_shape[1]
        split = catalog.load(
            spec.dataset,
            levels=spec.levels,
            n_train=spec.real_images,
            image_size=size,
            data_dir=folder,
            split=spec.split,
        )
        if spec.measures and spec.measures.representation and split.test_labels is None:
            raise DataMissingError(
                f"representations need the labels of the test images of {spec.dataset}, which are not beside its "
                f"images; get them with: {catalog.info(spec.dataset).how_to_get}"
            )
        if severity := corruption_severity(spec):
            from vaegen_ray.data.corruptions import load_corrupted

            test = split.test.owned()
            corrupted = load_corrupted(spec.dataset, test, severity=severity, image_size=size, data_dir=folder)
            split = replace(split, corrupted=corrupted)
        if spec.n_test:
            split = split.tested_on(spec.n_test, fixed_order(len(split.test)))
        splits[data_key(spec)] = split
    return splits


def load_diffusion_images(model: DiffusionSpec, folder: str | None) -> np.ndarray:
    """The training set of a diffusion model: uint8 [N, C, H, W], in all levels that the data set has."""
    size = model.image_shape[1]
    split = catalog.load(model.dataset, n_train=model.n_train, image_size=size, data_dir=folder, native=True)
    assert split.train.levels == model.levels, (split.train.levels, model.levels)
    return split.train.images
