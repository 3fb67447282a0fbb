"""A stream that several files of tests watch."""

import numpy as np
import pytest

from tests.cli.watching import STEPS


@pytest.fixture(scope="session")
def sensor(tmp_path_factory):
    """Two channels that a stack can learn, every five minutes, with a spike in the end."""
    noise = np.random.default_rng(0).normal(0, 0.1, (STEPS, 2))
    times = np.datetime64("2024-01-01T00:00") + 5 * np.arange(STEPS).astype("m8[m]")
    values = np.stack([20 + np.sin(np.arange(STEPS) / 4), 3 * np.cos(np.arange(STEPS) / 4)], 1) + noise
    values[STEPS - 20] += 500
    rows = [f"{when},{temp:.4f},{load:.4f},north" for when, (temp, load) in zip(times, values, strict=True)]
    path = tmp_path_factory.mktemp("sensor") / "sensor.csv"
    path.write_text("\n".join(["timestamp,temp,load,site", *rows]) + "\n")
    return path
