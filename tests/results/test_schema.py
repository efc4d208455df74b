import json
from dataclasses import fields
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pytest

from vaegen_ray.results.parquet import CorruptFileError, decode, encode
from vaegen_ray.results.schema import METRICS, SCHEMA_VERSION, VERSION_KEY, rows_to_table, trial_row, trials_schema
from vaegen_ray.spec.trial import TrialSpec

NOW = datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC)


def a_row(spec: TrialSpec, **more):
    return trial_row(spec, **({"sweep": "s", "bundle_id": "b", "status": "completed", "finished_at": NOW} | more))


def test_every_field_of_a_spec_is_a_column_with_its_value():
    spec = TrialSpec(nc=8, mz=3, beta=0.5, epochs=20, evaluate_at=(1, 20))
    back = rows_to_table([a_row(spec)], trials_schema()).to_pylist()[0]
    for name in (field.name for field in fields(TrialSpec)):
        value = getattr(spec, name)
        assert (tuple(json.loads(back[name])) if isinstance(value, tuple) else back[name]) == value, name
    assert back["latent_dim"] == spec.latent_dim
    assert TrialSpec(**{k: v for k, v in json.loads(back["spec_json"]).items() if k != "numerics_version"}) == spec


def test_a_row_survives_the_file_with_its_nulls():
    row = a_row(TrialSpec(), params_z=3, params_rest=4, wall_seconds=1.5)
    back = decode(encode([row], trials_schema(), key=("trial_id",)), trials_schema(), "x").to_pylist()[0]
    assert back == row | {"files": None}  # filled in at the commit
    assert back["params_total"] == 7
    assert back["device"] is None and back["error"] is None and back["failed_epoch"] is None


def test_a_missing_key_is_null_and_numpy_numbers_are_taken():
    row = {"trial_id": "t", "bundle_id": "b", "effective_epoch": np.float32(0.5), "step": np.int32(3), "elbo_test": -1}
    back = rows_to_table([row], METRICS).to_pylist()[0]
    assert back["effective_epoch"] == 0.5 and back["step"] == 3 and back["elbo_test"] == -1.0
    assert {k for k, v in back.items() if v is not None} == set(row)


@pytest.mark.parametrize(
    ("more", "named"),
    [
        ({"elbo_tset": 1.0}, "elbo_tset"),
        ({"step": 1.5}, "step holds int64; got 1.5"),
        ({"step": True}, "step holds int64; got True"),
        ({"step": 2**63}, "step holds int64; got 9223372036854775808"),
        ({"elbo_test": "-1.0"}, "elbo_test holds double; got '-1.0'"),
        ({"elbo_test": np.zeros(2)}, "elbo_test holds double"),
        ({"bundle_id": 7}, "bundle_id holds string; got 7"),
        ({"bundle_id": b"b"}, "bundle_id holds string; got b'b'"),
        ({"trial_id": None}, "trial_id needs a value in every row"),
    ],
)
def test_a_row_that_does_not_fit_is_refused_by_name(more, named):
    row = {"trial_id": "t", "bundle_id": "b", "effective_epoch": 1.0, **more}
    with pytest.raises(ValueError, match="column") as caught:
        rows_to_table([row], METRICS)
    assert named in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_local_time_is_refused():
    with pytest.raises(ValueError, match="finished_at"):
        rows_to_table([a_row(TrialSpec(), finished_at=datetime(2026, 1, 2))], trials_schema())


def test_a_status_needs_to_be_known_and_a_failure_its_error():
    with pytest.raises(ValueError, match="completed, failed, pruned; got 'done'"):
        a_row(TrialSpec(), status="done")
    with pytest.raises(ValueError, match="error None"):
        a_row(TrialSpec(), status="failed")
    with pytest.raises(ValueError, match="error 'oh'"):
        a_row(TrialSpec(), error="oh")


def test_numbers_carry_their_unit():
    assert METRICS.field("elbo_test").metadata == {b"unit": b"nats/image"}
    assert METRICS.field("bits_per_dim_test").metadata == {b"unit": b"bits/dimension"}


@pytest.mark.parametrize("schema", [trials_schema(), METRICS])
def test_the_version_is_in_the_metadata(schema: pa.Schema):
    assert schema.metadata[VERSION_KEY.encode()] == str(SCHEMA_VERSION).encode()


def test_the_same_rows_in_any_order_give_the_same_bytes_and_none_comes_twice():
    rows = [{"trial_id": t, "bundle_id": "b", "effective_epoch": e} for t in "ab" for e in (1.0, 2.0)]
    key = ("effective_epoch", "trial_id")
    assert encode(rows, METRICS, key=key) == encode(rows[::-1], METRICS, key=key)
    with pytest.raises(ValueError, match=r"two for 2\.0, b"):
        encode([*rows, rows[-1]], METRICS, key=key)


def test_a_flipped_byte_never_gives_other_numbers():
    rows = [{"trial_id": f"t{i}", "bundle_id": "b", "effective_epoch": 1.0, "elbo_test": i / 7} for i in range(5)]
    data = encode(rows, METRICS, key=("trial_id",))
    whole = decode(data, METRICS, "x")
    footer = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    noticed = 0
    for place in range(4, footer):
        flipped = data[:place] + bytes([data[place] ^ 0xFF]) + data[place + 1 :]
        try:
            assert decode(flipped, METRICS, "x").equals(whole), place  # some bytes of a page's header carry nothing
        except CorruptFileError:
            noticed += 1
    assert noticed
