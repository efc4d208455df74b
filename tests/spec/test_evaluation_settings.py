import json
import re

import pytest

from vaegen_ray.errors import SpecError
from vaegen_ray.spec import evaluation
from vaegen_ray.spec.evaluation import KINDS, Amortization, Attack, EvaluationSettings, TwoSample

ALL = EvaluationSettings(gaps_at=(1, 4), **{name: kind() for name, kind in KINDS.items()})


@pytest.mark.parametrize(
    "given", [EvaluationSettings(), ALL, EvaluationSettings(robustness=Attack(radius=0.05), gaps_at=[3])]
)
def test_round_trip_through_json(given):
    again = EvaluationSettings.from_dict(json.loads(json.dumps(given.as_dict())))
    assert again == given and hash(again) == hash(given)


def test_what_is_not_measured_is_not_written():
    assert EvaluationSettings(amortization=Amortization()).as_dict().keys() == {"amortization", "gaps_at"}
    assert set(ALL.as_dict()) == {"gaps_at", *KINDS}


def test_a_setting_that_is_added_later_leaves_trials_without_it_as_they_are(monkeypatch):
    monkeypatch.setitem(evaluation.ADDED, "robustness", {"restarts": 10})
    assert "restarts" not in ALL.as_dict()["robustness"] and EvaluationSettings.from_dict(ALL.as_dict()) == ALL
    more = EvaluationSettings(robustness=Attack(restarts=11))
    assert more.as_dict()["robustness"]["restarts"] == 11


@pytest.mark.parametrize(
    ("values", "unknown"),
    [({"smell": {}}, "smell"), ({"robustness": {"colour": 1, "images": 2}}, "colour"), ({"gaps": [1]}, "gaps")],
)
def test_unknown_fields_are_named(values, unknown):
    with pytest.raises(SpecError, match=f"unknown fields of the measures: {unknown}; got "):
        EvaluationSettings.from_dict(values)


BAD = [
    ("amortization", {"images": 0}, "images of the amortization gap must be a whole number >= 1; got 0"),
    ("amortization", {"steps": 1.5}, "steps of the amortization gap must be a whole number >= 1; got 1.5"),
    ("amortization", {"learning_rate": 0}, "learning_rate of the amortization gap must be a number > 0"),
    ("amortization", {"tolerance": 1}, "tolerance of the amortization gap must be a number >= 0 and < 1; got 1"),
    ("robustness", {"radius": 0}, "radius of the attack must be a number > 0 and < 1; got 0"),
    ("robustness", {"radius": 1}, "radius of the attack must be a number > 0 and < 1; got 1"),
    ("robustness", {"ms_ssim": "other"}, "ms_ssim of the attack must be one of kuzina, standard; got 'other'"),
    ("representation", {"severity": 6}, "severity of corruptions must be a whole number >= 1 and <= 5; got 6"),
    ("representation", {"neighbours": 0}, "neighbours of the representation must be a whole number >= 1; got 0"),
    ("reconstruction", {"shown": -1}, "shown reconstructions must be a whole number >= 0; got -1"),
    ("sample_quality", {"images": 1}, "images of the sample quality must be a whole number >= 2; got 1"),
    ("smoothness", {"points": 2}, "points of the smoothness must be a whole number >= 3; got 2"),
    ("two_sample", {"momentum": 1}, "momentum of the two-sample test must be a number >= 0 and < 1; got 1"),
    ("two_sample", {"batch_size": 1}, "batch_size of the two-sample test must be a whole number >= 2; got 1"),
    ("information", {"images": 1}, "images of the information must be a whole number >= 2; got 1"),
    ("information", {"minibatch": 1}, "minibatch of the information must be a whole number >= 2; got 1"),
    ("information", {"importance_samples": -1}, "importance_samples of the information must be a whole number"),
    ("inference", {"epochs": 0}, "epochs of the inference must be a whole number >= 1; got 0"),
    ("inference", {"optimal_epochs": 0}, "optimal_epochs of the inference must be a whole number >= 1; got 0"),
    ("inference", {"learning_rate": 0}, "learning_rate of the inference must be a number > 0"),
    (
        "inference",
        {"self_consistent": (50, 0)},
        "self_consistent of the inference must be rising numbers out of",
    ),
    ("inference", {"self_consistent": (30,)}, "self_consistent of the inference must be rising numbers out of"),
    ("inference", {"self_consistent": 50}, "self_consistent of the inference must be rising numbers out of"),
    ("neighbours", {"percentile": 101}, "percentile of the neighbours must be a whole number >= 0 and <= 100; got 101"),
    ("neighbours", {"images": 0}, "images of the neighbours must be a whole number >= 1; got 0"),
    ("two_sample", {"epochs": True}, "epochs of the two-sample test must be a whole number >= 1; got True"),
]


@pytest.mark.parametrize(("kind", "values", "message"), BAD)
def test_a_setting_out_of_range_says_its_name_and_what_it_got(kind, values, message):
    with pytest.raises(SpecError, match=f"^{re.escape(message)}"):
        KINDS[kind](**values)


def test_every_evaluation_has_a_bad_value_above():
    assert {kind for kind, _, _ in BAD} == set(KINDS)


def test_settings_are_dictionaries():
    with pytest.raises(SpecError, match="amortization of the measures must be a dictionary; got None"):
        EvaluationSettings.from_dict({"amortization": None})


@pytest.mark.parametrize("at", [(2, 1), (1, 1), 3, (1.0,), "ab"])
def test_epochs_of_the_gaps_are_rising_whole_numbers(at):
    with pytest.raises(SpecError, match="^gaps_at must be .*; got "):
        EvaluationSettings(gaps_at=at)


def test_settings_of_another_evaluation_are_refused():
    with pytest.raises(SpecError, match=r"robustness of the measures must be Attack or None; got TwoSample\("):
        EvaluationSettings(robustness=TwoSample())
