"""Size limits that are checked before anything is allocated: of files, and of the tensors a run would make.

Shapes: D natural parameters, N units and M message width of a layer, K delay line, B lanes, T steps of a chunk.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from pcrnn.errors import CheckpointError
from pcrnn.nn.connections import blocks, width
from pcrnn.tables import CELLS

if TYPE_CHECKING:
    from pcrnn.config import TrainConfig
    from pcrnn.nn.cells import Cell


def layer_sizes(
    config: TrainConfig, parameters: int, target: int | None = None, covariates: int = 0
) -> list[tuple[int, int]]:
    """N and K M of every layer of a stack that observes D = `parameters`, bottom first; see `count_weights`."""
    taps = config.num_taps
    assert taps is not None  # the settings are `settled`
    messages = blocks(config.skip, parameters, config.hidden, errors_rise=target is None, covariates=covariates)
    return [(units, taps * width(message)) for units, message in zip(config.hidden, messages, strict=True)]


def count_weights(config: TrainConfig, parameters: int, target: int | None = None, covariates: int = 0) -> int:
    """How many weights that stack has: W and b, R, Q, P, D, the mixing's A and B, and the base rates.

    Of a cell it counts what the class attributes of `pcrnn.nn.cells.Cell` declare; parameters that a user's cell adds
    of its own come on top.

    Args:
        target: natural parameters of a target, if it has one, which the layers then expect.
        covariates: numbers of a step that are known beforehand and go to its first layer.
    """
    expected = parameters if target is None else target
    cell = _cell(config)
    square = 1 + cell.recurrent_blocks + (2 if config.mixing else 0)
    biases = cell.blocks + (cell.recurrent_blocks if cell.recurrent_biased else 0)
    pairs = zip(config.hidden, config.hidden[1:], strict=False)
    top_down_weight = sum(below * above for below, above in pairs) if config.top_down else 0
    return (
        parameters
        + (0 if target is None else target)
        + top_down_weight
        + sum(
            cell.blocks * units * window + biases * units + square * units * units + expected * units
            for units, window in layer_sizes(config, parameters, target, covariates)
        )
    )


def check_claims(
    config: TrainConfig,
    parameters: int,
    shapes: Mapping[str, Sequence[int]],
    origin: str,
    *,
    target: int | None = None,
    covariates: int = 0,
) -> None:
    """Raise CheckpointError where a stack of these settings has more numbers than a file has for it.

    It comes before the stack is built, which then takes no more memory than the file; whether every shape fits is
    seen afterwards. `shapes` are those of the file's tensors, `origin` is what the settings were read from.
    """
    numbers = sum(map(math.prod, shapes.values()))
    claims = {
        "layers": (len(config.hidden), len(shapes)),  # each has tensors
        "natural parameters": (max(parameters, target or 0, covariates), numbers),
    }
    if all(claimed <= there for claimed, there in claims.values()):  # else counting could take long, too
        claims["weights"] = count_weights(config, parameters, target, covariates), numbers
    for what, (claimed, there) in claims.items():
        if claimed > there:
            raise CheckpointError(
                f"{origin}: expected settings of a stack whose weights are in the file beside it, of {numbers:,} "
                f"numbers in {len(shapes):,} tensors, got {claimed:,} {what}; it is damaged or was made to harm"
            )


def count_numbers(config: TrainConfig, parameters: int, target: int | None = None, covariates: int = 0) -> int:
    """A part of what a run allocates: weights, gradients, both moments, exact traces, gates and windows of a chunk."""
    sizes = layer_sizes(config, parameters, target, covariates)
    cell = _cell(config)
    traced = cell.components * cell.traced_blocks if getattr(config.options, "keeps_traces", False) else 0
    recurrent = 1 if cell.recurrent_blocks else 0
    traces = sum(traced * units * (window + recurrent * units) for units, window in sizes)
    steps = sum(cell.blocks * units + window for units, window in sizes)
    weights = count_weights(config, parameters, target, covariates)
    return 4 * weights + config.batch * (traces + config.chunk * steps)


def _cell(config: TrainConfig) -> type[Cell]:
    return CELLS[config.cell]
