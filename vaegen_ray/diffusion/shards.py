"""Makes shards from weights: blocks of samples as bytes, which do not depend on the process that makes them.

On a CPU one thread computes, since the number of threads changes the order of sums. On a GPU the network runs in
channels-last layout and is replayed as a CUDA graph.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from vaegen_ray.diffusion.edm import Denoiser, sample
from vaegen_ray.diffusion.network import build_denoiser, check_shapes
from vaegen_ray.errors import VaegenError
from vaegen_ray.spec.diffusion import StreamSpec
from vaegen_ray.training.numerics import arithmetic


def quantise(images: Tensor, levels: int) -> np.ndarray:
    """Rounds images in about [-1, 1] to the nearest of ``levels`` values: uint8 0 .. levels - 1."""
    steps = (images.float().clamp(-1, 1) + 1) * ((levels - 1) / 2)
    return steps.round().to(torch.uint8).cpu().contiguous().numpy()


def load_weights(denoiser: torch.nn.Module, weights: dict[str, Tensor], where: str) -> None:
    """Copies weights into a model.

    Raises:
        DataFormatError: names or shapes are those of another network; names the first that differs.
    """
    check_shapes(weights, dict(denoiser.named_parameters()), where)
    with torch.no_grad():
        for name, parameter in denoiser.named_parameters():
            parameter.copy_(weights[name])


class ShardMaker:
    """Makes the shards of one stream.

    Args:
        stream: the samples.
        weights: averaged weights by name.
        device: where to compute.
        where: name of the file of the weights, for messages.
        graph: replay the network as a CUDA graph; on a GPU only.

    Raises:
        DataFormatError: the weights are those of another network.
    """

    def __init__(
        self,
        stream: StreamSpec,
        weights: dict[str, Tensor],
        *,
        device: torch.device | str = "cpu",
        where: str = "the weights",
        graph: bool = True,
    ) -> None:
        self.stream = stream
        self.device = torch.device(device)
        self._denoiser = build_denoiser(stream.diffusion, self.device).eval().requires_grad_(False)
        load_weights(self._denoiser, weights, where)
        self._model: Denoiser = self._denoiser
        if self.device.type == "cuda":
            self._denoiser.to(memory_format=torch.channels_last)
            if graph:
                with arithmetic(stream.precision, self.device):
                    self._model = GraphedDenoiser(self._denoiser, stream.batch_size, stream.diffusion.image_shape)

    def images(self, seeds: range) -> np.ndarray:
        """Samples by number, made together: uint8 [len(seeds), C, H, W].

        Raises:
            VaegenError: a sample is not finite.
        """
        spec = self.stream.diffusion
        with one_thread(), arithmetic(self.stream.precision, self.device):
            model = self._model if len(seeds) == self.stream.batch_size else self._denoiser
            samples = sample(model, seeds, spec.image_shape, self.stream.sampler, device=self.device)
        finite = samples.isfinite().flatten(1).all(1)
        if not finite.all():
            first = seeds[int((~finite).nonzero()[0])]
            raise VaegenError(f"sample {first} of diffusion model {spec.diffusion_id} is not finite")
        return quantise(samples, spec.levels)

    def shard(self, number: int) -> np.ndarray:
        """Shard ``number``: uint8 [S, C, H, W], made in the batches that the stream declares."""
        first, size = number * self.stream.shard_size, self.stream.batch_size
        starts = range(first, first + self.stream.shard_size, size)
        return np.concatenate([self.images(range(start, start + size)) for start in starts])

    def made_by(self) -> dict[str, str]:
        """Device and version of torch, for the files; equal on equal machines."""
        cuda = self.device.type == "cuda"
        return {"device": torch.cuda.get_device_name(self.device) if cuda else "cpu", "torch": str(torch.__version__)}


class GraphedDenoiser:
    """A denoiser for batches of one size on a GPU, captured once as a CUDA graph and replayed.

    It computes in the precision of the ``arithmetic`` context within which it is created.
    """

    def __init__(self, denoiser: Denoiser, batch: int, shape: tuple[int, int, int]) -> None:
        self._x = torch.zeros(batch, *shape, device="cuda").to(memory_format=torch.channels_last)
        self._sigma = torch.ones(batch, device="cuda")
        self._graph = torch.cuda.CUDAGraph()
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.no_grad(), torch.cuda.stream(side):
            for _ in range(3):  # libraries choose their algorithms before the capture
                denoiser(self._x, self._sigma)
        torch.cuda.current_stream().wait_stream(side)
        with torch.no_grad(), torch.cuda.graph(self._graph):
            self._out = denoiser(self._x, self._sigma)

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        self._x.copy_(x)
        self._sigma.copy_(sigma)
        self._graph.replay()
        return self._out


@contextmanager
def one_thread() -> Iterator[None]:
    """Computes on one thread within the context."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
