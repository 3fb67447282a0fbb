"""The delay line: a layer's gates see the last K messages side by side.

Shapes: B batch, T time, M message width, K taps.
"""

import torch
from torch import Tensor


def delay_line(message: Tensor, before: Tensor) -> tuple[Tensor, Tensor]:
    """Windows [u_t, ..., u_{t-K+1}] [B, T, K M] of messages [B, T, M], and the last K - 1 messages after them.

    Args: before, the K - 1 messages before the chunk, oldest first, [B, K - 1, M].
    """
    taps = before.shape[1] + 1
    if taps == 1:
        return message, before
    steps, history = message.shape[1], torch.cat([before, message], 1)
    windows = [history[:, k : k + steps] for k in reversed(range(taps))]
    return torch.cat(windows, -1), history[:, steps:]
