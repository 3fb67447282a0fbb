"""The tracking suite at a tiny size; the filter itself against least squares over the whole past."""

import json

import torch

from comparisons.mechanisms import tracking
from comparisons.mechanisms.tracking import Scene, TrackingSetup, kalman, scene
from comparisons.suite import Request


def test_the_kalman_filter_is_least_squares_over_everything_seen():
    """Its last state minimises the energy of all steps at once, solved as one system of linear equations."""
    setting = TrackingSetup(batch=2, length=6, settling=0, push=0.3, noise=0.7)
    seen = scene(setting, 0)
    unit = torch.eye(3, dtype=torch.float64)
    filtered, _ = kalman(seen, 0.3 * unit, 0.7 * unit)
    whole = torch.eye(18, dtype=torch.float64)
    for t in range(1, 6):
        whole[3 * t : 3 * t + 3, 3 * t - 3 : 3 * t] = -seen.transition
    readout = torch.block_diag(*[seen.readout] * 6)
    precision = whole.T @ whole / 0.3 + readout.T @ readout / 0.7
    wanted = torch.linalg.solve(precision, readout.T @ seen.observed.flatten(1).T / 0.7).T[:, -3:]
    torch.testing.assert_close(filtered[:, -1], wanted, rtol=1e-9, atol=1e-12)


def test_a_scene_is_seen_through_its_matrix():
    seen = scene(TrackingSetup(batch=1, length=5, settling=0, noise=0.0), 1)
    assert isinstance(seen, Scene)
    torch.testing.assert_close(seen.observed, seen.state @ seen.readout.T)


def test_the_suite_writes_a_row_for_every_way_and_number_of_steps(tmp_path):
    paths = tracking.run(Request(quick=True, seeds=2, out=tmp_path))
    assert [path.name for path in paths] == [f"tracking.{ending}" for ending in ("json", "md", "png", "svg")]
    written = json.loads(paths[0].read_text())
    ways = (tracking.UNIT, tracking.LEARNED, tracking.KNOWN)
    places = [(row["seed"], row["way"], row["steps"]) for row in written["rows"]]
    each = [("Kalman filter", None), *((way, steps) for way in ways for steps in (0, 5))]
    assert places == [(seed, *one) for seed in (0, 1) for one in each]
    assert written["summary"][0].startswith("Mean squared error of the state: unit precisions ")
