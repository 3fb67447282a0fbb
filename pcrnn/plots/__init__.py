"""Pictures of a run: what every layer expects, learns and is surprised by.

Each function takes arrays and a path without ending, writes `PATH.png` and `PATH.svg` and returns both. None
needs a display or touches the matplotlib backend of its caller; seaborn is imported on the first call. A
level has one colour in all pictures of a run: level 0, the base rate, is grey, and higher layers are darker.
"""

from pcrnn.plots.canvas import RunInfo
from pcrnn.plots.forecast import forecast
from pcrnn.plots.levels import nats_explained
from pcrnn.plots.panels import Feature
from pcrnn.plots.passage import MAX_SYMBOLS, least_smooth, surprise_over_time
from pcrnn.plots.training import gradient_norms, surprise_over_training

__all__ = [
    "MAX_SYMBOLS",
    "Feature",
    "RunInfo",
    "forecast",
    "gradient_norms",
    "least_smooth",
    "nats_explained",
    "surprise_over_time",
    "surprise_over_training",
]
