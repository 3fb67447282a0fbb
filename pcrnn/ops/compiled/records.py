"""What a stack looks like to compiled code: rows of sizes, numbers and addresses of tensors.

Everything is in the data, so no size, depth, family or rate is compiled anew. Addresses are of tensors that belong to
the stack, its optimiser and its rule, and of scratch memory; whoever fills the tables keeps them alive.

Shapes: B lanes, D natural parameters, X numbers of an observation (D, or 1 for a symbol), C covariates, L layers,
N units, M message width, J = K M window, G traced blocks, R real components of a unit's memory, S signals.
"""

import numpy as np

GATED, ROTATING = 0, 1
CATEGORICAL, BERNOULLI, POISSON, GAUSSIAN, STUDENT_T = range(5)
ADAMW, SGD = 0, 1


def record(integers: str, floats: str = "") -> np.dtype:
    """A row of integers and of floats with these names."""
    names = [(name, np.int64) for name in integers.split()] + [(name, np.float64) for name in floats.split()]
    return np.dtype(names, align=True)


STACK = record(
    "depth size values covariates lanes family optimiser carries own_error "
    # Addresses; of level 0: eta [D], error and residual of the targets [B, D], of the observations [B, D].
    "eta old_eta error message_error surprise state_surprise scratch",
    "degrees limit largest_error clip beta1 beta2 epsilon rate",
)
"""One row: the whole stack. `surprise` [L + 1, B] and `state_surprise` [L, B] are float64."""

LAYER = record(
    "units inputs window taps cell blocks traced components mixes signals first_parameter "
    # The state before the pending observation, and the traces before it: LayerState and Trace.
    "cell_state output messages expectation trace bias_trace feedback angle "
    # What happened at the pending observation, [B, ...]: preactivation becomes the gates.
    "gates state imaginary gated mixed new_output new_expectation message residual state_error inverse_rms "
    "immediate squashed new_error "
    # Gradients, [B, ...].
    "grad_output grad_gated grad_mixing grad_memory grad_gate grad_residual handed"
)
"""One row a layer, bottom first."""

PARAMETER = record("value first second step rows columns gradient", "rate decay")
"""Row 0: the base rate. Then five a layer: weight, bias, predictor, readout, mixing; no rows where there is none."""
PER_LAYER = 5

STATISTIC = record("variance weight size moves", "factor floor outlier prior drift")
"""Rows 0 and 1: the unit of messages and its recent mean; 2: level 0's scale. Then two a layer: scale and sigma."""
UNIT, RECENT, BASE_SCALE = 0, 1, 2
