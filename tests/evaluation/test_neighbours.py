"""Distances to the nearest training images, against brute force, and the hard image that is shown."""

import numpy as np
import pytest
import torch

from vaegen_ray.evaluation import neighbours as module
from vaegen_ray.evaluation.neighbours import nearest, neighbours
from vaegen_ray.evaluation.reconstruction import reconstructed
from vaegen_ray.models.vae import VAE
from vaegen_ray.spec.evaluation import Neighbours
from vaegen_ray.spec.trial import TrialSpec

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"))]


def images(n: int, *shape: int, seed: int = 0, levels: int = 256) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, levels, (n, *(shape or (1, 8, 8))), generator=generator, dtype=torch.uint8)


def brute(train: torch.Tensor, test: torch.Tensor, levels: int) -> tuple[np.ndarray, np.ndarray]:
    """The same by whole numbers, pair by pair."""
    pixels, others = (part.flatten(1).numpy().astype(np.int64) for part in (test, train))
    squares = ((pixels[:, None] - others[None]) ** 2).sum(-1)
    return np.sqrt(squares.min(1).astype(float)) / (levels - 1), squares.argmin(1)


def bundle(members: int, levels: int = 17, **fields: object) -> tuple[VAE, list[TrialSpec]]:
    specs = [TrialSpec(**{"nc": 8, "levels": levels, "seed": seed, **fields}) for seed in range(members)]
    return VAE(specs), specs


def detail(measured, quantity: str):
    (found,) = [each for each in measured.details if each.quantity == quantity]
    return found


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("shape", "levels"), [((3, 9, 7), 256), ((1, 8, 8), 17), ((1, 4, 4), 2)])
def test_distances_are_those_of_brute_force(shape, levels, device):
    """Of binary images many are equally near: the first is taken."""
    train, test = images(300, *shape, levels=levels), images(200, *shape, seed=1, levels=levels)
    expected, first = brute(train, test, levels)
    distances, indices = nearest(train.to(device), test.to(device), levels=levels)
    assert distances.dtype == torch.float64 and indices.dtype == torch.int64
    np.testing.assert_allclose(distances.cpu(), expected, rtol=1e-14, atol=0)
    np.testing.assert_array_equal(indices.cpu(), first)


def test_a_distance_is_in_units_of_the_intensity():
    black, white = torch.zeros(1, 3, 2, 2, dtype=torch.uint8), torch.full((1, 3, 2, 2), 16, dtype=torch.uint8)
    assert nearest(black, white, levels=17)[0].tolist() == [12**0.5]
    pixel = white.clone()
    pixel[0, 1, 0, 1] = 12
    assert nearest(white, pixel, levels=17)[0].tolist() == [0.25]


@pytest.mark.parametrize("device", DEVICES)
def test_bright_images_that_are_equal_or_almost_are_told_apart(device):
    """|x|^2 is near 2e8, which float32 knows to 16 only: one grey level of one pixel is a square of 1."""
    train = (255 - images(40, 3, 32, 32, levels=2)).to(device)
    test = train.clone()
    test[1::2, 0, 0, 0] -= 1
    distances, indices = nearest(train, test, levels=256)
    assert indices.tolist() == list(range(40))
    assert distances.tolist() == [0, 1 / 255] * 20


def test_the_first_of_equal_images_is_the_nearest_within_and_across_chunks(monkeypatch):
    train = torch.cat((images(5, seed=1), images(3), images(3), images(3)))
    for rows in (1, 4, 100):
        monkeypatch.setattr(module, "_rows_at_once", lambda numbers, rows=rows: rows)
        assert nearest(train, images(3), levels=256)[1].tolist() == [5, 6, 7]


def test_chunks_do_not_matter(monkeypatch):
    train, test = images(101, levels=3), images(57, seed=1, levels=3)
    whole = nearest(train, test, levels=3)
    seen, addmm = [], torch.addmm
    monkeypatch.setattr(torch, "addmm", lambda *args, **options: seen.append(addmm(*args, **options)) or seen[-1])
    for size in (1, 8 * (10 * 10 + 3 * 10 * 64), 2**16):
        monkeypatch.setattr(module, "CHUNK_BYTES", size)
        seen.clear()
        for got, expected in zip(nearest(train, test, levels=3), whole, strict=True):
            assert torch.equal(got, expected)
        rows = module._rows_at_once(64)
        assert len(seen) == -(-101 // rows) * -(-57 // rows) > 1
    assert sum(part.numel() for part in seen) == 101 * 57


@pytest.mark.parametrize("numbers", [16, 768, 3072, 27_648])
def test_the_rows_at_once_fill_the_memory_that_they_may_take(numbers):
    rows = module._rows_at_once(numbers)
    assert 8 * (rows**2 + 3 * rows * numbers) <= module.CHUNK_BYTES < 8 * ((rows + 1) ** 2 + 3 * (rows + 1) * numbers)


def test_a_row_is_the_mean_and_the_percentiles_are_distances_of_images():
    train, test = images(50, levels=17), images(101, seed=1, levels=17)
    distances = np.sort(brute(train, test, 17)[0])
    for measured in neighbours(*bundle(2), train, test, Neighbours()):
        assert measured.row == {"neighbour_distance": pytest.approx(distances.mean(), rel=1e-12)}
        assert detail(measured, "neighbour_distance").item == "percentiles"
        np.testing.assert_allclose(detail(measured, "neighbour_distance").values, distances, rtol=1e-14)
        assert [each.quantity for each in measured.details] == [
            *("neighbour_distance", "hard_original", "hard_neighbour", "hard_reconstruction")
        ]


@pytest.mark.parametrize(
    ("n", "percentile", "rank"), [(101, 90, 90), (11, 90, 9), (11, 0, 0), (11, 100, 10), (1, 50, 0)]
)
def test_the_hard_image_has_the_percentile_and_comes_with_its_neighbour(n, percentile, rank):
    train, test = images(50, levels=17), images(n, seed=1, levels=17)
    distances, indices = brute(train, test, 17)
    hard = np.argsort(distances, kind="stable")[rank]
    vae, specs = bundle(3)
    with torch.no_grad():
        again = reconstructed(vae.eval(), test[hard][None])
    for member, measured in enumerate(neighbours(vae, specs, train, test, Neighbours(percentile=percentile))):
        for quantity, item, image in (
            ("hard_original", "test", test[hard] / 16),
            ("hard_neighbour", "train", train[indices[hard]] / 16),
            ("hard_reconstruction", "test", again[member, 0]),
        ):
            found = detail(measured, quantity)
            assert found.item == item
            np.testing.assert_allclose(found.values, image.flatten().numpy(), atol=5.1e-4)
            assert all(value == round(value, 3) for value in found.values)
        assert detail(measured, "neighbour_distance").values[percentile] == pytest.approx(distances[hard])


def test_colours_are_flattened_first():
    train, test = images(4, 3, 8, 8), images(3, 3, 8, 8, seed=1)
    vae, specs = bundle(1, 256, image_shape=(3, 8, 8))
    (measured,) = neighbours(vae, specs, train, test, Neighbours(percentile=100))
    hard = brute(train, test, 256)[0].argmax()
    np.testing.assert_allclose(detail(measured, "hard_original").values, test[hard].flatten() / 255, atol=5.1e-4)


def test_of_equally_far_images_the_first_is_shown():
    """All are copies of training images but for two pixels: every distance is the same."""
    train = images(6, levels=16)
    test = train.clone()
    test[:, 0, 0, :2] += 1
    for percentile, rank in ((0, 0), (40, 2), (100, 5)):
        (measured,) = neighbours(*bundle(1), train, test, Neighbours(percentile=percentile))
        assert measured.row["neighbour_distance"] == pytest.approx(2**0.5 / 16)
        np.testing.assert_allclose(
            detail(measured, "hard_neighbour").values, train[rank].flatten().numpy() / 16, atol=5.1e-4
        )


def test_images_of_the_training_set_have_no_distance():
    train = images(30, levels=17)
    (measured,) = neighbours(*bundle(1), train, train.flip(0), Neighbours())
    assert measured.row == {"neighbour_distance": 0}
    assert detail(measured, "neighbour_distance").values == [0] * 101
    assert detail(measured, "hard_original").values == detail(measured, "hard_neighbour").values


def test_the_images_asked_for_are_the_first_or_all_that_there_are():
    train, test = images(30, levels=17), images(40, seed=1, levels=17)
    vae, specs = bundle(1)
    few, same, fewer = (
        neighbours(vae, specs, train, part, Neighbours(images=count))
        for part, count in ((test, 12), (test[:12], 12), (test[:5], 12))
    )
    assert few == same != fewer
    assert fewer == neighbours(vae, specs, train, test, Neighbours(images=5))


def test_the_distances_are_computed_once_for_all_members(monkeypatch):
    calls = []
    monkeypatch.setattr(module, "nearest", lambda *args, **options: calls.append(1) or nearest(*args, **options))
    vae, specs = bundle(3)
    measured = neighbours(vae, specs, images(30, levels=17), images(9, seed=1, levels=17), Neighbours())
    assert calls == [1] and len(measured) == 3
    rows = [each.row for each in measured]
    assert rows[0] == rows[1] == rows[2] and rows[0] is not rows[1]  # a row of one's own
    assert [each.details[:3] for each in measured[1:]] == [measured[0].details[:3]] * 2
    assert len({tuple(detail(each, "hard_reconstruction").values) for each in measured}) == 3


@pytest.mark.parametrize("options", [{}, {"architecture": "residual", "nc": 4, "latent_per_mz": 4}])
def test_members_alone_equal_the_members_among_others(options):
    vae, specs = bundle(3, **options)
    train, test = images(30, levels=17), images(20, seed=1, levels=17)
    vae.train()
    before = {name: tensor.clone() for name, tensor in vae.state_dict().items()}
    together = neighbours(vae, specs, train, test, Neighbours())
    assert all(torch.equal(before[name], tensor) for name, tensor in vae.state_dict().items())
    for spec, measured in zip(specs, together, strict=True):
        (alone,) = neighbours(VAE([spec]), [spec], train, test, Neighbours())
        assert alone.row == measured.row and alone.details[:3] == measured.details[:3]
        np.testing.assert_allclose(alone.details[3].values, measured.details[3].values, atol=1.1e-3)


def test_a_member_that_is_not_finite_spoils_no_other():
    vae, specs = bundle(2)
    with torch.no_grad():
        for parameter in vae.parameters():
            parameter[0] = torch.nan
    broken, sound = neighbours(vae, specs, images(9, levels=17), images(5, seed=1, levels=17), Neighbours())
    assert broken.row == sound.row
    assert np.isnan(detail(broken, "hard_reconstruction").values).all()
    assert np.isfinite(detail(sound, "hard_reconstruction").values).all()
