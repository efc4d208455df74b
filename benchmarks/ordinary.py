"""The same VAEs without vaegen_ray's bundles: one ordinary Ray Tune trial a VAE, as one would write it by hand.

    python benchmarks/ordinary.py SWEEP_JSON [--limit N] [--keep-denormals] [--reuse-actors]

Trains the trials of a ``sweep.json`` (fully-connected network, Bernoulli likelihood) with a function trainable: modules
from ``torch.nn``, an eager loop over shuffled indices, Adam, the ELBO on both data sets at the same epochs, Tune's
defaults with one CPU core a trial (on a machine with a GPU, an equal share of it too).

Three things favour this program: PyTorch runs on one thread in a trial, so that trials do not fight for cores;
denormals are flushed to zero, which few programs do (``--keep-denormals`` does not); and nothing is stored but what
Tune itself writes, neither weights nor checkpoints. ``benchmarks/bundles.py`` calls it.
"""

import argparse
import json
import logging
import math
import os
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Report = Callable[[dict[str, float]], None]


class OrdinaryVAE(nn.Module):
    """pixels - nc - nc - 2Z and back (xiao2024, Appendix B.1), with binary images in and logits out.

    Args:
        pixels: of an image.
        nc: units of the hidden layers.
        latent: dimensions of z.
    """

    def __init__(self, pixels: int, nc: int, latent: int) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Linear(pixels, nc), nn.ReLU(), nn.Linear(nc, nc), nn.ReLU(), nn.Linear(nc, 2 * latent)
        )
        self.decoder = nn.Sequential(
            nn.Linear(latent, nc), nn.ReLU(), nn.Linear(nc, nc), nn.ReLU(), nn.Linear(nc, pixels)
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Images [B, pixels] -> rate and distortion, nats: two [B]."""
        mean, h = self.encoder(x).chunk(2, dim=1)
        std = F.softplus(h)
        logits = self.decoder(mean + std * torch.randn_like(std))
        distortion = F.binary_cross_entropy_with_logits(logits, x, reduction="none").sum(1)
        rate = 0.5 * (mean**2 + std**2 - 2 * std.log() - 1).sum(1)
        return rate, distortion


def train(config: dict[str, Any], train_images: Tensor, test_images: Tensor, report: Report) -> OrdinaryVAE:
    """Trains one VAE and reports its ELBOs at the epochs ``config["evaluate_at"]``; returns it.

    Args:
        config: what ``config_of`` gives.
        train_images: 0 and 1, float32 [N, pixels], on the device of the training.
        test_images: the same for D_test.
        report: is given ``epoch``, ``elbo_train``, ``elbo_test``, nats an image.
    """
    torch.manual_seed(config["seed"])
    vae = OrdinaryVAE(config["pixels"], config["nc"], config["latent"]).to(train_images.device)
    optimizer = torch.optim.Adam(vae.parameters(), lr=config["learning_rate"])
    for epoch in range(1, config["epochs"] + 1):
        vae.train()
        order = torch.randperm(len(train_images), device=train_images.device)
        for indices in order.split(config["batch_size"]):
            rate, distortion = vae(train_images[indices])
            loss = (rate + distortion).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        if epoch in config["evaluate_at"]:
            vae.eval()
            with torch.no_grad():
                elbos = [-torch.stack(vae(images)).sum(0).mean().item() for images in (train_images, test_images)]
            report({"epoch": epoch, "elbo_train": elbos[0], "elbo_test": elbos[1]})
    return vae


def trainable(config: dict[str, Any], train_images: Any, test_images: Any, keep_denormals: bool) -> None:
    """The trial as Tune calls it."""
    from ray import tune

    torch.set_num_threads(1)
    torch.set_flush_denormal(not keep_denormals)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    on_device = [torch.tensor(pixels, dtype=torch.float32, device=device) for pixels in (train_images, test_images)]
    train(config, on_device[0], on_device[1], tune.report)


def config_of(trial: dict[str, Any]) -> dict[str, Any]:
    """The settings of one VAE from a trial of ``sweep.json``."""
    assert trial["architecture"] == "fully_connected" and trial["likelihood"] == "bernoulli", trial
    assert trial["n_train"] % trial["batch_size"] == 0 and trial["beta"] == 1, trial
    same = {name: trial[name] for name in ("nc", "seed", "epochs", "batch_size", "learning_rate", "evaluate_at")}
    return {**same, "pixels": math.prod(trial["image_shape"]), "latent": trial["mz"] * trial["latent_per_mz"]}


def spread(items: list, count: int | None) -> list:
    """``count`` of ``items``, evenly spread over the list; all when None."""
    count = len(items) if count is None else min(count, len(items))
    return [items[i * len(items) // count] for i in range(count)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sweep", help="a sweep.json")
    parser.add_argument("--limit", type=int, metavar="N", help="train N of the VAEs, evenly spread [default: all]")
    parser.add_argument(
        "--keep-denormals", action="store_true", help="leave denormals to the CPU [default: flush them]"
    )
    parser.add_argument(
        "--reuse-actors",
        action="store_true",
        help="one process for many trials [default: a process each, as Tune does]",
    )
    options = parser.parse_args()
    with open(options.sweep) as file:
        trials = json.load(file)["trials"]

    import ray
    from ray import tune

    from vaegen_ray.data import catalog

    first = trials[0]
    split = catalog.load(first["dataset"], levels=first["levels"], n_train=first["n_train"])
    train_images, test_images = (part.images.reshape(len(part), -1) for part in (split.train, split.test))
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    ray.init(
        num_cpus=os.cpu_count(),
        include_dashboard=False,
        object_store_memory=256 * 2**20,
        log_to_driver=False,
        logging_level=logging.ERROR,
    )
    resources = {"cpu": 1.0}
    if "GPU" in ray.cluster_resources():
        resources["gpu"] = 1 / (os.cpu_count() or 1)
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        results = tune.Tuner(
            tune.with_resources(
                tune.with_parameters(
                    trainable,
                    train_images=train_images,
                    test_images=test_images,
                    keep_denormals=options.keep_denormals,
                ),
                resources,
            ),
            param_space=tune.grid_search([config_of(trial) for trial in spread(trials, options.limit)]),
            tune_config=tune.TuneConfig(reuse_actors=options.reuse_actors),
            run_config=tune.RunConfig(storage_path=folder),
        ).fit()
    ends = [result.metrics for result in results if result.error is None]
    tune_seconds = time.monotonic() - started
    ray.shutdown()
    elbo = sum(metrics["elbo_test"] for metrics in ends) / max(1, len(ends))
    print(json.dumps({"completed": len(ends), "tune_seconds": tune_seconds, "elbo_test": elbo}))
    return 0 if len(ends) == len(results) else 1


if __name__ == "__main__":
    sys.exit(main())
