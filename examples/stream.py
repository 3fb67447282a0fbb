"""A weather station watched live: every hour is scored, then learned from, and a faulty thermometer raises an alarm.

    pip install "pcrnn[online]" pvlib && python examples/stream.py

Temperature and humidity of a typical year in Greensboro, hour by hour, in one pass of a second. The thermometer shows
25 degrees too many at hour 7000, and 15 too many for a day from hour 8000 on. Alarms after the first month:

    2287 2845 3257 3664 3975 4360 4814 5728 7000 7001 8000

Both faults are found when they begin, and so is the end of the first. The other eight are fronts: it got 6 to 11
degrees colder within that hour, or 7 warmer.
"""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
import tyro

from pcrnn import Online, OnlineConfig

JUMP, SHIFT = 7000, 8000
CONFIG = OnlineConfig(calendar=("hour",), short=1, alarm=1e-12, probation=720)


def main(quick: bool = False) -> list[int]:
    """Hours at which alarms were raised.

    Args:
        quick: only the first 200 hours.
    """
    spec = find_spec("pvlib")
    if spec is None or spec.origin is None:
        raise SystemExit("expected the package pvlib, which is not installed; pip install pvlib")
    table = Path(spec.origin).parent / "data/723170TYA.CSV"
    year = np.genfromtxt(table, delimiter=",", skip_header=2, usecols=(31, 37))
    year[JUMP, 0] += 25
    year[SHIFT : SHIFT + 24, 0] += 15
    hours = np.datetime64("2025-01-01T01:00") + np.arange(len(year)) * np.timedelta64(1, "h")
    torch.manual_seed(0)
    online, alarms = Online(channels=2, config=CONFIG), []
    for number, (x, hour) in enumerate(zip(year[: 200 if quick else None], hours, strict=False)):
        if online.learn_one(x, hour).alarm:
            alarms.append(number)
    return alarms


if __name__ == "__main__":
    print("alarms at hours", *tyro.cli(main))
