"""Video: frames of grey values between 0 and 1, from a file or generated from bouncing digits.

A pixel is observed as a Bernoulli variable whose grey value is the share of light: the surprise is a cross-entropy,
least where the value is predicted exactly, and 0 there for black and white pixels only.

Shapes: T frames, H rows, W columns, D = H W pixels.
"""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from pcrnn.data import baselines
from pcrnn.data.answers import Track
from pcrnn.data.formats.npy_file import read_array
from pcrnn.data.packages import in_package
from pcrnn.data.source import Reader, Source, require_length
from pcrnn.errors import CheckpointError, DataError

if TYPE_CHECKING:
    from pcrnn.nn.observations import Observation

BOUNCING = "bouncing-digits"
CLIP = 20
"""Frames for which the same digits bounce."""

_RANGES = {"digits": (1, 9, 1), "size": (8, 64, 16), "clips": (10, 10_000, 500)}
"""Options of bouncing digits: least, most, default."""


class VideoSource(Source):
    """Frames of grey values, in nats a frame.

    Args:
        frames: between 0 and 1, or whole numbers from 0 to 255, [T, H, W] or clips that follow each other [n, T, H, W].
        name: what messages call it.

    Raises:
        DataError: too short, another shape, or a value out of range.

    Example:
        >>> VideoSource(np.random.default_rng(0).random((20, 4, 6))).sequence("train").shape
        torch.Size([18, 24])
    """

    kind = "video"
    unit = "nats/frame"

    def __init__(self, frames: np.ndarray, *, name: str = "video") -> None:
        if frames.ndim not in (3, 4) or 0 in frames.shape:
            raise DataError(
                f"{name}: expected frames [T, H, W] or clips of them [n, T, H, W], got shape {list(frames.shape)}; "
                "reshape it"
            )
        self.size = int(frames.shape[-2]), int(frames.shape[-1])
        frames = frames.reshape(-1, self.size[0] * self.size[1])
        require_length(len(frames), name, "frames")
        most = 255 if frames.dtype.kind in "iu" and frames.max() > 1 else 1
        wrong = ~((frames >= 0) & (frames <= most))
        if wrong.any():
            frame, pixel = np.argwhere(wrong)[0]
            row, column = divmod(int(pixel), self.size[1])
            raise DataError(
                f"{name}[{frame}, {row}, {column}]: expected a grey value from 0 to 1, or a whole number to 255, "
                f"got {frames[frame, pixel]}; scale it"
            )
        self._scale = 1 / most
        super().__init__(torch.from_numpy(frames.astype(np.uint8 if most == 255 else np.float32)), name=name)

    def observation(self) -> Observation:
        from pcrnn.nn.observations import Bernoulli

        return Bernoulli(self.size[0] * self.size[1])

    def to_observations(self, raw: Tensor) -> Tensor:
        return raw * self._scale

    def baselines(self) -> dict[str, float]:
        """Nats per frame of each pixel's base rate, and of copying the frame before with two fitted rates."""
        train, valid = (self.sequence(split).numpy() for split in ("train", "valid"))
        return {"base rate": baselines.key_rates(train, valid), "copy-last frame": baselines.frame_copy(train, valid)}

    def describe(self) -> str:
        height, width = self.size
        return f"{self.name}: {self.length:,} frames of {height} x {width} pixels{self._split_in_words()}"

    def track(self, steps: Tensor) -> Track:
        return super().track(steps)._replace(film=self.size)

    def state(self) -> dict[str, Any]:
        return super().state() | {"size": list(self.size)}


class VideoReader(Reader):
    """Reads a .npy file, or generates bouncing digits, whose options are `digits`, `size` and `clips`."""

    options = ("digits", "size", "clips")
    formats = ("npy",)
    built_in = (BOUNCING,)

    def open(self, location: str, options: Mapping[str, str], state: Mapping[str, Any] | None) -> VideoSource:
        if location == BOUNCING:
            source = VideoSource(bouncing_digits(**_numbers(options)), name=location)
        elif options:
            raise DataError(
                f"{location}: expected options of {BOUNCING} alone, got {', '.join(options)}; leave them out"
            )
        else:
            source = VideoSource(read_array(Path(location), (3, 4), "[T, H, W] or [n, T, H, W]"), name=location)
        wanted = list(source.size) if state is None else state.get("size")
        if not (isinstance(wanted, list) and len(wanted) == 2 and all(type(number) is int for number in wanted)):
            raise CheckpointError(f"data state: expected the size of a frame, got {wanted!r}; it is damaged")
        if wanted != list(source.size):
            raise DataError(
                f"{location}: expected frames of {wanted[0]} x {wanted[1]} pixels, as the run was trained on, got "
                f"{source.size[0]} x {source.size[1]}; scale them"
            )
        return source


def bouncing_digits(digits: int = 1, size: int = 16, clips: int = 500) -> np.ndarray:
    """Handwritten digits of 8 x 8 pixels that move straight and bounce off the edges, uint8 [clips CLIP, size, size].

    The same arguments give the same frames; every clip has other digits, places and speeds. The last tenth of the clips
    shows digits from the last tenth of scikit-learn's, which other people wrote.

    Raises:
        DataError: scikit-learn, whose digits they are, is not installed.
    """
    path = in_package("sklearn", "datasets/data/digits.csv.gz", BOUNCING, "scikit-learn")
    with gzip.open(path, "rt") as file:
        table = np.loadtxt(file, delimiter=",", dtype=np.int64)
    images = (table[:, :-1] * 255 // 16).astype(np.uint8).reshape(-1, 8, 8)
    known, draw = len(images) * 9 // 10, np.random.default_rng(0)
    frames = np.zeros((clips, CLIP, size, size), np.uint8)
    reach = size - 8
    for number, clip in enumerate(frames):
        which = (
            draw.integers(0, known, digits) if number < clips * 9 // 10 else draw.integers(known, len(images), digits)
        )
        places = draw.integers(0, reach + 1, (digits, 2)) + np.arange(CLIP)[:, None, None] * _speeds(draw, digits)
        turning = np.abs((places + reach) % (2 * reach) - reach) if reach else np.zeros_like(places)
        for frame, corners in zip(clip, turning, strict=True):
            for image, (row, column) in zip(images[which], corners, strict=True):
                patch = frame[row : row + 8, column : column + 8]
                np.maximum(patch, image, out=patch)
    return frames.reshape(-1, size, size)


def _speeds(draw: np.random.Generator, digits: int) -> np.ndarray:
    """Of one or two pixels a frame down and to the right, either way."""
    return draw.integers(1, 3, (digits, 2)) * draw.choice([-1, 1], (digits, 2))


def _numbers(options: Mapping[str, str]) -> dict[str, int]:
    numbers = {}
    for name, (least, most, default) in _RANGES.items():
        written = options.get(name, str(default))
        if not (written.isascii() and written.isdigit() and len(written) < 9 and least <= int(written) <= most):
            raise DataError(f"{BOUNCING}: expected {name} as a whole number from {least} to {most}, got {written!r}")
        numbers[name] = int(written)
    return numbers
