import pytest

from vaegen_ray.seeds import STREAMS, stream_seed


def test_streams_differ_by_seed_name_and_index():
    addresses = [(seed, name, index) for seed in range(20) for name in STREAMS for index in range(20)]
    assert len({stream_seed(*address) for address in addresses}) == len(addresses)


def test_digits_of_seed_and_index_do_not_run_together():
    assert stream_seed(1, "order", 11) != stream_seed(11, "order", 1)


def test_fits_a_torch_generator():
    assert all(0 <= stream_seed(seed, "noise") < 2**63 for seed in range(1000))


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ((0, "init", 0), 900553517829159482),
        ((0, "order", 3), 5486038029339273987),
        ((2**31 - 1, "evaluation", 1), 6641852071905997400),
    ],
)
def test_pinned_so_that_old_rows_can_be_made_again(address, expected):
    assert stream_seed(*address) == expected


def test_the_index_is_zero_unless_told():
    assert stream_seed(5, "init") == stream_seed(5, "init", 0)
