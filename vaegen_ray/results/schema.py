"""The columns of the three kinds of result files, and the row of a trial.

``trials/*.parquet`` holds one row a finished trial, ``metrics/*.parquet`` one row a trial and evaluation,
``details/*.parquet`` the series of numbers of some evaluations. ELBOs, rates, distortions and gaps are nats an image; a
larger ELBO is better; ``bits_per_dim_test`` is bits a dimension.

Adding a nullable column leaves ``SCHEMA_VERSION`` as it is: files without it read as null. The version rises when the
meaning, type or name of a column changes; then ``results.parquet.decode`` must turn old files into new rows.
"""

import json
import typing
from collections.abc import Iterable, Mapping
from dataclasses import fields
from datetime import UTC, datetime
from enum import StrEnum
from functools import cache
from numbers import Integral, Real
from typing import Any

import pyarrow as pa

from vaegen_ray.errors import not_one_of
from vaegen_ray.spec.evaluation import ALPHAS, CLASSIFIERS
from vaegen_ray.spec.trial import TrialSpec

SCHEMA_VERSION = 2
SEALED_SINCE = 2
"""The first version whose files hold their SHA-256 (``parquet.SEAL_KEY``) and whose commit rows name their files."""
VERSION_KEY = "vaegen_ray.schema_version"
"""Key of the schema version in the metadata of a Parquet file."""


class TrialStatus(StrEnum):
    """The end of a trial."""

    COMPLETED = "completed"
    FAILED = "failed"
    PRUNED = "pruned"
    """Stopped early by a search; no result."""


FORMER_STATUSES = {"stopped": TrialStatus.PRUNED}
"""Values in files of earlier versions."""

"""Stopped is a trial that a search gave up before its end: done, but no result of a finished training."""

FILES = "files"
"""The column of ``trials_schema`` that says what files a bundle has; readers check it and leave it out."""

_METADATA = {VERSION_KEY: str(SCHEMA_VERSION)}
_ARROW_TYPES = {int: pa.int64(), float: pa.float64(), str: pa.string()}
_NATS = {"unit": "nats/image"}


def _key(name: str, kind: pa.DataType | None = None) -> pa.Field:
    """A column that every row must fill."""
    return pa.field(name, kind or pa.string(), nullable=False)


def _spec_columns() -> list[pa.Field]:
    """One column for every field of ``TrialSpec``, in its order; what is made of parts becomes a string of JSON."""
    types = typing.get_type_hints(TrialSpec)
    return [pa.field(f.name, _ARROW_TYPES.get(types[f.name], pa.string())) for f in fields(TrialSpec)]


@cache
def trials_schema() -> pa.Schema:
    """The columns of ``trials/*.parquet``; ``finished_at`` is UTC, the ``params_`` columns count parameters,
    and ``files`` names the other files of the bundle (``results.manifest``)."""
    return pa.schema(
        [
            _key("trial_id"),
            _key("sweep"),
            _key("bundle_id"),
            *_spec_columns(),
            pa.field("latent_dim", pa.int64()),
            pa.field("params_z", pa.int64()),
            pa.field("params_rest", pa.int64()),
            pa.field("params_total", pa.int64()),
            _key("status"),
            pa.field("error", pa.string()),
            pa.field("failed_epoch", pa.int64()),
            pa.field("wall_seconds", pa.float64()),
            pa.field("device", pa.string()),
            pa.field("node", pa.string()),
            pa.field("code_version", pa.string()),
            pa.field("finished_at", pa.timestamp("us", tz="UTC")),
            pa.field("bundle_members", pa.int64()),
            _key("spec_json"),
            pa.field("samples_digest", pa.string()),
            pa.field("samples_wait_seconds", pa.float64()),
            pa.field("evaluation_seconds", pa.float64()),
            pa.field(FILES, pa.string()),
        ],
        metadata=_METADATA,
    )


@cache
def read_schema() -> pa.Schema:
    """The columns of ``trials/*.parquet`` as readers give them."""
    schema = trials_schema()
    return schema.remove(schema.get_field_index(FILES))


METRICS = pa.schema(
    [
        _key("trial_id"),
        _key("bundle_id"),
        _key("effective_epoch", pa.float64()),
        pa.field("step", pa.int64()),
        pa.field("elbo_train", pa.float64(), metadata=_NATS),
        pa.field("elbo_test", pa.float64(), metadata=_NATS),
        pa.field("elbo_source", pa.float64(), metadata=_NATS),
        pa.field("rate_train", pa.float64(), metadata=_NATS),
        pa.field("rate_test", pa.float64(), metadata=_NATS),
        pa.field("distortion_train", pa.float64(), metadata=_NATS),
        pa.field("distortion_test", pa.float64(), metadata=_NATS),
        pa.field("generalization_gap", pa.float64(), metadata=_NATS),
        pa.field("amortization_gap", pa.float64(), metadata=_NATS),
        pa.field("robustness_gap", pa.float64(), metadata=_NATS),
        pa.field("bits_per_dim_test", pa.float64(), metadata={"unit": "bits/dimension"}),
        pa.field("elbo_samples", pa.int64()),
        pa.field("elbo_optimal", pa.float64(), metadata=_NATS),
        pa.field("amortization_images", pa.int64()),
        pa.field("amortization_steps", pa.int64()),
        pa.field("ms_ssim_input", pa.float64()),
        pa.field("ms_ssim_reconstruction", pa.float64()),
        pa.field("attack_kl", pa.float64(), metadata=_NATS),
        *(pa.field(f"accuracy_{name}", pa.float64()) for name in CLASSIFIERS),
        pa.field("psnr_test", pa.float64(), metadata={"unit": "dB"}),
        pa.field("fid", pa.float64()),
        pa.field("inception_score", pa.float64()),
        pa.field("latent_log_q", pa.float64(), metadata={"unit": "nats"}),
        pa.field("latent_variation", pa.float64(), metadata={"unit": "nats"}),
        pa.field("two_sample_accuracy", pa.float64()),
        pa.field("elbo_validation", pa.float64(), metadata=_NATS),
        pa.field("best_epoch", pa.int64()),
        pa.field("mutual_information", pa.float64(), metadata=_NATS),
        pa.field("marginal_kl", pa.float64(), metadata=_NATS),
        pa.field("mutual_information_minibatch", pa.float64(), metadata=_NATS),
        pa.field("marginal_kl_minibatch", pa.float64(), metadata=_NATS),
        pa.field("information_images", pa.int64()),
        pa.field("log_likelihood_train", pa.float64(), metadata=_NATS),
        pa.field("log_likelihood_test", pa.float64(), metadata=_NATS),
        pa.field("elbo_optimal_inference", pa.float64(), metadata=_NATS),
        *(pa.field(f"elbo_self_consistent_{alpha}", pa.float64(), metadata=_NATS) for alpha in ALPHAS),
        pa.field("neighbour_distance", pa.float64(), metadata={"unit": "intensity"}),
    ],
    metadata=_METADATA,
)
"""The columns of ``metrics/*.parquet``; a further evaluation adds a nullable column at the end."""
MEASURED = tuple(METRICS.names[METRICS.get_field_index("elbo_train") :])
"""The columns of ``METRICS`` that hold what was measured."""

DETAILS = pa.schema(
    [
        _key("trial_id"),
        _key("bundle_id"),
        _key("effective_epoch", pa.float64()),
        _key("quantity"),
        _key("item"),
        _key("values", pa.list_(pa.float64())),
    ],
    metadata=_METADATA,
)
"""The columns of ``details/*.parquet``: series of numbers that are no column of their own. ``quantity`` says what they
are, such as ``log_q``; ``item`` which of them, such as ``pair-3``."""


def trial_row(
    spec: TrialSpec,
    *,
    sweep: str,
    bundle_id: str,
    status: str,
    error: str | None = None,
    failed_epoch: int | None = None,
    params_z: int | None = None,
    params_rest: int | None = None,
    wall_seconds: float | None = None,
    device: str | None = None,
    node: str | None = None,
    code_version: str | None = None,
    bundle_members: int | None = None,
    samples_digest: str | None = None,
    samples_wait_seconds: float | None = None,
    evaluation_seconds: float | None = None,
    finished_at: datetime | None = None,
) -> dict[str, Any]:
    """The row of one finished trial for ``SweepStore.commit_trials``.

    Args:
        spec: what was trained; fills its own columns, ``trial_id``, ``latent_dim`` and ``spec_json``.
        status: a ``TrialStatus``; ``failed`` needs an ``error``.
        params_z, params_rest: parameters in Theta_z and in the rest; ``params_total`` is their sum.
        samples_digest: names the samples that it was trained on (their folder in the storage).
        samples_wait_seconds: the trial's part of the time that its bundle waited for samples.
        evaluation_seconds: its part of the time that evaluations took, out of ``wall_seconds``.
        finished_at: with a time zone; now, when it is not given.

    Raises:
        ValueError: the status is unknown, or a failed trial comes without its error.
    """
    _check_status(status, error)
    total = None if params_z is None or params_rest is None else params_z + params_rest
    columns = {k: json.dumps(v) if isinstance(v, (list, dict)) else v for k, v in spec.as_dict().items()}
    return {
        "trial_id": spec.trial_id,
        "sweep": sweep,
        "bundle_id": bundle_id,
        **columns,
        "latent_dim": spec.latent_dim,
        "params_z": params_z,
        "params_rest": params_rest,
        "params_total": total,
        "status": status,
        "error": error,
        "failed_epoch": failed_epoch,
        "wall_seconds": wall_seconds,
        "device": device,
        "node": node,
        "code_version": code_version,
        "finished_at": finished_at or datetime.now(UTC),
        "bundle_members": bundle_members,
        "spec_json": spec.spec_json,
        "samples_digest": samples_digest,
        "samples_wait_seconds": samples_wait_seconds,
        "evaluation_seconds": evaluation_seconds,
    }


def _check_status(status: str, error: str | None) -> None:
    if status not in (statuses := [each.value for each in TrialStatus]):
        raise ValueError(not_one_of("status", status, statuses))
    if (status == TrialStatus.FAILED) != (error is not None):
        raise ValueError(f"a failed trial, and no other, has an error; got status {status!r} and error {error!r}")


def rows_to_table(rows: Iterable[Mapping[str, Any]], schema: pa.Schema) -> pa.Table:
    """Rows as a table of ``schema``; a missing key is null. Nothing is converted that would change a value.

    Raises:
        ValueError: a key that is no column, a value of the wrong type, or no value where every row needs one.
    """
    rows = list(rows)
    unknown = sorted({key for row in rows for key in row} - set(schema.names))
    if unknown:
        raise ValueError(f"unknown columns of a result: {', '.join(unknown)}; the schema has {', '.join(schema.names)}")
    return pa.table([_column([row.get(field.name) for row in rows], field) for field in schema], schema=schema)


def _column(values: list[Any], field: pa.Field) -> pa.Array:
    for value in values:
        if value is None and not field.nullable:
            raise ValueError(f"column {field.name} needs a value in every row; got none")
        if value is not None and not _fits(value, field.type):
            raise ValueError(f"column {field.name} holds {field.type}; got {value!r} ({type(value).__name__})")
    return pa.array(values, field.type)


def _fits(value: Any, kind: pa.DataType) -> bool:
    """Stricter than Arrow, which would cut 1.5 to 1 for an int64 and take a local time for UTC."""
    if pa.types.is_integer(kind):
        return isinstance(value, Integral) and not isinstance(value, bool) and -(2**63) <= int(value) < 2**63
    if pa.types.is_floating(kind):
        return isinstance(value, Real) and not isinstance(value, bool)
    if pa.types.is_list(kind):
        return isinstance(value, list) and all(_fits(number, kind.value_type) for number in value)
    if pa.types.is_timestamp(kind):
        return isinstance(value, datetime) and value.tzinfo is not None
    return isinstance(value, str)
