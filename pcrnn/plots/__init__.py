"""Figures of a run: what each layer predicts, how it learns and how surprised it is.

Each function takes arrays and a path without suffix, writes `PATH.png` and `PATH.svg` and returns both paths. None
needs a display or changes the caller's matplotlib backend; seaborn is imported on the first call. A level has the
same colour in all figures of a run: level 0, the base rate, is grey, and higher layers are darker.
"""

from pcrnn.plots.canvas import RunInfo
from pcrnn.plots.forecast import forecast_bands
from pcrnn.plots.levels import nats_explained
from pcrnn.plots.panels import Feature
from pcrnn.plots.passage import MAX_SYMBOLS, min_smooth, surprise_over_time
from pcrnn.plots.training import gradient_norms, surprise_over_training

__all__ = [
    "MAX_SYMBOLS",
    "Feature",
    "RunInfo",
    "forecast_bands",
    "gradient_norms",
    "min_smooth",
    "nats_explained",
    "surprise_over_time",
    "surprise_over_training",
]
