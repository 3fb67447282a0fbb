"""Signals, which ask `pcrnn watch` to stop and wake it where it waits."""

import os
import select
import signal
import time
from types import FrameType


class Stop:
    """The first signal asks to stop after the observations in hand, and wakes what waits; the second ends at once."""

    signal: int | None = None

    def __enter__(self) -> "Stop":
        self._woken, self._wake = os.pipe()
        self._before = {number: signal.signal(number, self) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        os.close(self._woken)
        os.close(self._wake)

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if self.signal is not None:
            os._exit(128 + number)
        self.signal = number
        os.write(self._wake, b".")
        os.write(2, b"\nstopping after these observations; once more stops at once\n")

    def waits(self, descriptor: int | None, seconds: float | None = None) -> bool:
        """Wait until a descriptor has bytes, at most so many seconds; whether it is time to stop instead."""
        if os.name != "nt":
            select.select([self._woken, *([] if descriptor is None else [descriptor])], [], [], seconds)
        elif descriptor is None:  # where pipes cannot be selected
            time.sleep(seconds or 0)
        return self.signal is not None
