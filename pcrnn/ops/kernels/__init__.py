"""Triton kernels, one family a file, each with a launcher of the same name and signature as in `reference`.

Importing this imports Triton, so nothing imports it before `pcrnn.ops.backend` has said that kernels can run.
In every kernel `p_x` is a pointer, `b_x` a block in registers, `i_x` an index; `x_b`, `x_t`, `x_n` are strides.
"""

from pcrnn.ops.kernels.credit import credit as credit
from pcrnn.ops.kernels.eligibility import eligibility_update_ as eligibility_update_
from pcrnn.ops.kernels.errors import bernoulli_error as bernoulli_error
from pcrnn.ops.kernels.errors import categorical_error as categorical_error
from pcrnn.ops.kernels.errors import gaussian_error as gaussian_error
from pcrnn.ops.kernels.errors import poisson_error as poisson_error
from pcrnn.ops.kernels.gated import gated_cell as gated_cell
from pcrnn.ops.kernels.scan import scan as scan
from pcrnn.ops.kernels.state_error import state_error as state_error
from pcrnn.ops.kernels.state_error import state_error_backward as state_error_backward
