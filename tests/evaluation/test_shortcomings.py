"""What is said of a bad model, and that nothing is said of a good one."""

import re

import pytest

from worldmodel.evaluation.shortcomings import shortcomings

GOOD = {
    "prediction_mse": [0.01, 0.02],
    "prediction_mse_baseline": {"last_frame": [0.4, 0.8], "mean_frame": [1.0, 1.0]},
    "prediction_variance": 1.0,
    "tracking": {
        "speed": {"0-15": 0.9, "15-40": 0.98, "40-100": 0.95},
        "hidden": {"0-15": 0.0, "15-40": -0.1, "40-100": -0.1},
    },
    "tracking_network": {
        "speed": {"0-15": 0.9, "15-40": 0.97, "40-100": 0.7},
        "hidden": {"0-15": 0.0, "15-40": 0.0, "40-100": 0.0},
    },
    "ceiling": {
        "speed": {"0-15": 0.99, "15-40": 0.99, "40-100": 0.99, "100-": None},
        "hidden": {"0-15": 0.4, "15-40": 0.4, "40-100": 0.4},
    },
    "recovery": {
        "level": {"speed": 0.95, "hidden": 0.3},
        "blind": {"speed": 0, "hidden": None},
        "kidnapped": {"speed": 30, "hidden": None},
    },
}


def test_nothing_is_said_of_a_good_model():
    assert shortcomings(GOOD) == []
    assert shortcomings({k: v for k, v in GOOD.items() if k.startswith("prediction")}) == []


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"prediction_mse": [0.99, 1.0]}, "99% of the frames' variance.*next to nothing"),
        ({"prediction_mse": [0.45, 0.5]}, "stands still is a better prediction"),
        (
            {
                "tracking": {"speed": {"0-15": 0.98, "15-40": 0.9, "40-100": -3.0}},
                "ceiling": None,
            },
            "loses speed: R² 0.98 in its first frames, -3.00 in frames 40-100",
        ),
        (
            {"recovery": GOOD["recovery"] | {"blind": {"speed": None, "hidden": None}}},
            "does not come back to speed within 30 frames after 10 that it did not see",
        ),
        (
            {"recovery": GOOD["recovery"] | {"kidnapped": {"speed": None, "hidden": None}}},
            "does not come back to speed within 30 frames after its belief was put where another",
        ),
        (
            {"tracking": GOOD["tracking"] | {"speed": {"0-15": 0.8, "15-40": 0.7, "40-100": 0.65}}},
            r"does not hold: speed \(R² 0.70, from two frames 0.99\); record more",
        ),
        ({"recovery": None}, "not measured: most test episodes are shorter than 55 steps"),
    ],
)
def test_a_bad_one_is_named_once(changed, told):
    (said,) = shortcomings(GOOD | changed)
    assert re.search(told, said)


@pytest.mark.parametrize("collected", [True, False])
def test_flags_of_collect_are_named_where_it_can_record_more(collected):
    idle = {"prediction": 0.1, "mean_frame": 1.0, "last_frame": 1.0, "exchanged_actions": [0.1]}
    idle |= {"next_frame": 0.1, "next_frame_of_one": 0.5, "memory": 0.0}
    said = shortcomings(GOOD | {"recovery": None, "learned": idle}, collected=collected)
    assert len(said) == 2
    assert [("collect --process" in said[0]), ("collect --test-steps" in said[1])] == [
        collected
    ] * 2
    assert collected or not re.search("collect|--test-steps|--process|--frame-skip", "".join(said))
