"""What River's estimators of `pcrnn.streaming.river` have in common, and the guard where River is not installed."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from pcrnn.streaming.config import OnlineConfig
from pcrnn.streaming.online import Online


def _part_of_river(module: str) -> Any:
    """A module of River's by its name at run time: here, beside a file of that name, type checkers would find that."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError("pcrnn.streaming.river: expected River; pip install 'pcrnn[river]'") from error


base = _part_of_river("river.base")
Forecaster: Any = _part_of_river("river.time_series.base").Forecaster
if not hasattr(base, "AnomalyDetector"):  # it stood elsewhere before
    raise ImportError("pcrnn.streaming.river: expected River 0.26 or later; pip install -U 'pcrnn[river]'")


class OverOnline(base.Estimator):
    """An estimator over a stream, which begins with the first thing that is learned.

    River reads the parameters of an estimator from its own `__init__`, so every one lists and keeps these four.
    """

    hidden: Sequence[int]
    lr: float | None
    seed: int
    config: OnlineConfig | None
    _online: Online | None = None

    def _settings(self) -> OnlineConfig:
        config = OnlineConfig() if self.config is None else self.config
        return config if self.lr is None else dataclasses.replace(config, lr=self.lr)

    def _begin(self, *, difference: bool | None, **sizes: Any) -> Online:
        """A new stream, whose weights come from the seed alone; torch's own generator stays where it is.

        Args:
            difference: of the settings, where these leave it open.
        """
        config = self._settings()
        config = dataclasses.replace(config, difference=difference) if config.difference is None else config
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            return Online(hidden=self.hidden, config=config, **sizes)

    @classmethod
    def _unit_test_params(cls) -> Iterator[dict[str, Any]]:
        yield {"hidden": (8, 8)}
