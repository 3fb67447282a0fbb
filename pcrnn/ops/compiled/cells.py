"""The cells whose traces are exact, one step: what `pcrnn.nn.cells` computes over a chunk, at a chunk of one.

    gated       blocks c, f, o:      a = sigmoid(f),  s <- a s + (1 - a) tanh(c),              q = s silu(o)
    rotating    blocks x, y, f, o:   s <- a exp(i theta) s + (1 - a) (tanh(x) + i tanh(y)),    q = Re(s) silu(o)

`immediate` is ds/dk of the traced blocks at fixed s_{t-1}, of the real part where the memory is complex: q reads no
other, so it is all that a learning signal sees of this step. The traces of the imaginary part move on with
`imaginary`.

Shapes: N units; gates [blocks N].
"""

from pcrnn.ops.compiled.jit import compiled, part, vector
from pcrnn.ops.compiled.records import ROTATING
from pcrnn.ops.compiled.vector_math import sigmoid, tanh_


@compiled
def forward(layer, lane, like):
    """The gates [blocks N] hold preactivations and become a, tanh, ..., o; fills state, gated and squashed sigmoid(o).

    The candidate's blocks come first, then the decay, then the output gate.
    """
    n = layer.units
    item = like.itemsize
    gates = vector(layer.gates + lane * layer.blocks * n * item, layer.blocks * n, like)
    before = vector(layer.cell_state + lane * layer.components * n * item, layer.components * n, like)
    state = vector(layer.state + lane * n * item, n, like)
    gated = vector(layer.gated + lane * n * item, n, like)
    squashed = vector(layer.squashed + lane * n * item, n, like)
    candidates = layer.blocks - 2
    tanh_(part(gates, 0, candidates * n))
    decay, output_gate = part(gates, candidates * n, n), part(gates, (candidates + 1) * n, n)
    sigmoid(decay, decay)
    sigmoid(output_gate, squashed)
    one = gates.dtype.type(1)
    if layer.cell == ROTATING:
        imaginary = vector(layer.imaginary + lane * n * item, n, like)
        turn = vector(layer.angle, 2 * n, like)  # cosines, then sines
        for i in range(n):
            a = decay[i]
            real, other = before[i], before[n + i]
            state[i] = a * (turn[i] * real - turn[n + i] * other) + (one - a) * gates[i]
            imaginary[i] = a * (turn[n + i] * real + turn[i] * other) + (one - a) * gates[n + i]
    else:
        for i in range(n):
            state[i] = decay[i] * before[i] + (one - decay[i]) * gates[i]
    for i in range(n):
        gated[i] = state[i] * output_gate[i] * squashed[i]


@compiled
def immediate(layer, lane, like):
    """Fills ds/dk of the traced blocks at fixed s_{t-1}, real part, [traced N]."""
    n = layer.units
    item = like.itemsize
    gates = vector(layer.gates + lane * layer.blocks * n * item, layer.blocks * n, like)
    state = vector(layer.state + lane * n * item, n, like)
    found = vector(layer.immediate + lane * layer.traced * n * item, layer.traced * n, like)
    decay = part(gates, (layer.blocks - 2) * n, n)
    last = (layer.traced - 1) * n
    one = gates.dtype.type(1)
    for i in range(n):
        update = one - decay[i]
        found[i] = update * (one - gates[i] * gates[i])
        found[last + i] = (state[i] - gates[i]) * update
    if layer.cell == ROTATING:  # tanh(y) drives the imaginary part alone
        for i in range(n):
            found[n + i] = 0


@compiled
def output_credit(layer, lane, grad_gated, grad_memory, grad_gate, like):
    """From a gradient in q [N] one in s, and one in the preactivation of the output gate."""
    n = layer.units
    item = like.itemsize
    gates = vector(layer.gates + lane * layer.blocks * n * item, layer.blocks * n, like)
    state = vector(layer.state + lane * n * item, n, like)
    squashed = vector(layer.squashed + lane * n * item, n, like)
    output_gate = part(gates, (layer.blocks - 1) * n, n)
    one = gates.dtype.type(1)
    for i in range(n):
        open_ = squashed[i]
        grad_memory[i] = grad_gated[i] * output_gate[i] * open_
        grad_gate[i] = grad_gated[i] * state[i] * (open_ * (one + output_gate[i] * (one - open_)))
