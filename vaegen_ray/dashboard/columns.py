"""Which columns of a sweep are worth an axis, a colour or a place in a table, and what they are called."""

import json
from dataclasses import fields

import numpy as np
import pandas as pd

from vaegen_ray.results.groups import differing
from vaegen_ray.results.schema import METRICS
from vaegen_ray.spec.trial import TrialSpec

NAMES = {
    "params_total": "parameters",
    "params_z": "parameters in Θz",
    "neg_elbo_test": "negative test ELBO (nats/image)",
    "elbo_test": "test ELBO (nats/image)",
    "elbo_train": "training ELBO (nats/image)",
    "bits_per_dim_test": "test bits per dimension",
    "n_train": "training images",
    "diffusion_n_train": "training images of the diffusion model",
    "budget": "k, distinct images / training images",
    "real_percent": "real images (%)",
    "hidden_layers": "hidden layers",
    "elbo": "ELBO (nats/image)",
    "rate": "rate (nats/image)",
    "distortion": "distortion (nats/image)",
    "log_likelihood": "log p(x) (nats/image)",
    "log_likelihood_test": "test log p(x) (nats/image)",
    "effective_epoch": "effective epochs",
    "wall_seconds": "seconds",
    "trial_id": "trial",
    "error": "reason",
}
"""Where the name of a column and its unit do not say it."""

FIELDS = tuple(field.name for field in fields(TrialSpec))
SIZES = ("params_total", "params_z")
NEVER = ("seed", "evaluate_at", "measures", "stream", "epochs")
"""Fields that no figure is drawn over."""
COUNTS = ("step", "elbo_samples", "amortization_images", "amortization_steps", "information_images", "best_epoch")
"""Numbers beside the metrics that measure nothing."""
PUNCTUATION = str.maketrans("", "", '{}"')
"""Of JSON, which nobody needs to read it."""
MOST_LETTERS = 120
"""Of the values of a field, where all of them are listed."""

USUAL = {
    "double_descent": ("params_total", "neg_elbo_test", "method"),
    "complexity_axes": ("nc", "neg_elbo_test", "mz"),
    "generalization_gaps": ("method", "generalization_gap", "method"),
    "synthetic_budget": ("budget", "elbo_test", "method"),
    "reverse_half_asleep": ("method", "elbo_test", "method"),
    "mollification": ("method", "elbo_test", "method"),
    "real_synthetic_mix": ("real_percent", "elbo_test", "method"),
    "diffusion_subsets": ("diffusion_n_train", "elbo_test", "method"),
    "representation": ("method", "accuracy_logistic_regression", "method"),
    "latent_smoothness": ("method", "latent_variation", "method"),
    "more_real_data": ("budget", "elbo_test", "method"),
    "search": ("params_total", "elbo_validation", "method"),
    "inference_gap": ("levels", "bits_per_dim_test", "levels"),
    "rate_distortion": ("beta", "distortion_test", "split"),
}
"""x, y and colour of the figure that the paper draws, by sweep."""


def label(name: str) -> str:
    """What a column is called, with its unit."""
    if name in NAMES:
        return NAMES[name]
    unit = ""
    if name in METRICS.names:
        unit = ((METRICS.field(name).metadata or {}).get(b"unit") or b"").decode()
    stem, _, part = name.rpartition("_")
    words = {"test": f"test {stem}", "train": f"training {stem}"}.get(part, name).replace("_", " ")
    return words + (f" ({unit})" if unit else "")


def with_derived(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows with columns that are computed from others."""
    made = {"neg_elbo_test": -rows["elbo_test"].astype(float)} if "elbo_test" in rows else {}
    if "stream" in rows:
        known = {stream: _parse_diffusion_n_train(stream) for stream in rows["stream"].dropna().unique()}
        made["diffusion_n_train"] = rows["stream"].map(known).astype(float)
    return rows.assign(**made)


def _parse_diffusion_n_train(stream: str) -> float:
    try:
        return float(json.loads(stream)["diffusion"]["n_train"])
    except (LookupError, TypeError, ValueError, RecursionError):  # written by others
        return np.nan


def varying(trials: pd.DataFrame) -> list[str]:
    """The fields in which trials differ, the seed left out, in the order of ``TrialSpec``."""
    images = "diffusion_n_train"
    found = [name for name in differing(trials) if name not in NEVER]
    return found + [images] * (images in trials and trials[images].nunique(dropna=False) > 1)


def summary(trials: pd.DataFrame) -> list[tuple[str, str]]:
    """What the trials of a sweep are, in words: each field of their specifications and its value, or how many and from
    where to where. Fields that nobody set are left out."""
    said = []
    for name in (name for name in FIELDS if name in trials):
        values = trials[name].dropna()
        values = values[values.astype(str) != ""]
        if values.empty:
            continue
        known = sorted(values.unique()) if is_number(values) else list(dict.fromkeys(values.astype(str)))
        words = [plain(value).translate(PUNCTUATION) for value in known]
        many = f"{len(words)} values: {', '.join(words)}" if len(words) > 1 else words[0]
        if len(many) > MOST_LETTERS and len(words) > 1 and is_number(values):
            many = f"{len(words)} values, from {words[0]} to {words[-1]}"
        said.append((label(name), many if len(many) <= MOST_LETTERS else f"{many[:MOST_LETTERS]}…"))
    return said


def is_number(values: pd.Series) -> bool:
    """Whether a column holds numbers."""
    return bool(pd.api.types.is_numeric_dtype(values))


def measured(rows: pd.DataFrame) -> list[str]:
    """The metrics that some trial has, those that are looked at first in front."""
    first = ["neg_elbo_test", "elbo_test", "generalization_gap"]
    others = [name for name in METRICS.names if name in rows and name not in (*first, *COUNTS)]
    numeric = [name for name in (*first, *others, "wall_seconds") if name in rows and is_number(rows[name])]
    return [name for name in numeric if name != "effective_epoch" and rows[name].notna().any()] or ["neg_elbo_test"]


def curved(rows: pd.DataFrame) -> list[str]:
    """What learning curves can be drawn of: a pair of ``_test`` and ``_train`` is one, without its ending."""
    names = [name for name in measured(rows) if name not in ("neg_elbo_test", "wall_seconds")]
    pairs = [name[:-5] for name in names if name.endswith("_test") and f"{name[:-5]}_train" in names]
    of_pairs = {f"{pair}_{part}" for pair in pairs for part in ("test", "train")}
    return [*pairs, *(name for name in names if name not in of_pairs)] or ["elbo"]


def axes(sweep: str, varied: list[str], rows: pd.DataFrame) -> tuple[list[str], list[str], tuple[str, str, str]]:
    """What can be on the x axis, what can be the colour, and the usual x, y and colour of a sweep."""
    x = [*(varied or ["method"]), *SIZES]
    colours = list(dict.fromkeys(["method", *varied]))
    wanted = USUAL.get(sweep.partition(".old-")[0], ("", "", ""))
    numeric = [name for name in varied if name != "method" and (name not in rows or is_number(rows[name]))]
    usual_x = wanted[0] if wanted[0] in (*x, "method") else (numeric or x)[0]
    others = [name for name in ("method", *varied) if name in varied and name != usual_x]
    usual_colour = wanted[2] if wanted[2] in colours else (others or ["method"])[0]
    return list(dict.fromkeys([*x, usual_x])), colours, (usual_x, wanted[1] or "neg_elbo_test", usual_colour)


def shown(varied: list[str], rows: pd.DataFrame) -> list[str]:
    """The columns of the table; a download has all."""
    has_failed = rows["error"].notna().any() if "error" in rows else False
    names = ["trial_id", "status", *(["error"] if has_failed else []), *varied, "seed", "params_total"]
    names += ["effective_epoch", "elbo_train", "elbo_test", "generalization_gap", "wall_seconds"]
    return [name for name in names if name in rows]


def settings(rows: pd.DataFrame, varied: list[str]) -> list[str]:
    """What sets each trial apart, in words: ``nc 64 · mz 1 · seed 2``."""
    names = [name for name in (*varied, "seed") if name in rows]
    columns = [[f"{name} {plain(value)}" for value in rows[name].tolist()] for name in names]
    return [" · ".join(parts) for parts in zip(*columns, strict=True)] if columns else [""] * len(rows)


def plain(value: object) -> str:
    """A value as people write it: no digits that say nothing, a dash for none."""
    if value is None or value is pd.NaT or (isinstance(value, float) and np.isnan(value)):
        return "–"
    if isinstance(value, (float, np.floating)):
        number = float(value)
        whole = number.is_integer() and abs(number) < 1e12
        return f"{int(number):,}".replace("-", "−") if whole else f"{number:.4g}".replace("-", "−", 1)
    return f"{value:,}".replace("-", "−") if isinstance(value, (int, np.integer)) else str(value)


def column_words(values: pd.Series) -> list[str]:
    """The values of a column as people write them; numbers that are no whole ones with as many decimals each."""
    known = values.dropna()
    if is_number(values) and len(known) and (known % 1 != 0).any():
        sizes = np.abs(known.to_numpy(float))
        if (sizes[sizes > 0] < 1e-3).any():  # decimals would make nothing of it
            return [plain(value) for value in values]
        decimals = 2 if sizes.max() >= 10 else 4
        return ["–" if np.isnan(value) else f"{value:,.{decimals}f}".replace("-", "−") for value in values]
    return [plain(value) for value in values]
