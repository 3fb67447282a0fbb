"""Predictive layers that learn by their own rule inside another model, whose other parts use backprop."""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from learning_rules.local import Local
from learning_rules.rule import Result
from pcrnn.nn.activity import Chunk
from pcrnn.nn.layer import LayerState, PredictiveLayer


class LearningState(NamedTuple):
    """State of a layer that learns as it runs."""

    layer: LayerState
    carry: Any  # the rule's: eligibility traces


class LearnsLocally(nn.Module):
    """A predictive layer that fills its own `.grad` in the forward pass and lets no gradient through.

    Called like the layer it holds: `output, state = module(x)`, x [B, T, M]. In training mode with gradients enabled
    the layer learns to predict its next input (steps 1..T-1 have one; the last teaches nothing). Downstream modules
    train by ordinary backprop on the output, which is detached: nothing crosses the layer's border in either
    direction, so put it where a path beside it exists if modules below must learn too (a residual branch).

    Args:
        layer: the layer; its observation must be a family over its own input.
        rule: a local rule with credit `layer` (default exact traces).

    `last` is the Result of the latest forward pass that learned.
    """

    last: Result | None

    def __init__(self, layer: PredictiveLayer, rule: Local | None = None) -> None:
        super().__init__()
        if layer.observation.symbolic or layer.observation.size != layer.input_size:
            raise ValueError(
                f"LearnsLocally: the layer must expect its own input ({layer.input_size} real values), its observation "
                f"is {type(layer.observation).__name__}({layer.observation.size}); use PredictiveLayer's default"
            )
        self.layer, self.rule, self.last = layer, rule or Local(credit="layer"), None

    def forward(self, x: Tensor, state: LearningState | None = None) -> tuple[Tensor, LearningState]:
        """Outputs r [B, T, N], detached, and the state after the last step."""
        before, carry = state or (None, self.rule.init(self.layer, x.shape[0]))
        x = x.detach()
        if not (self.training and torch.is_grad_enabled()):
            with torch.no_grad():
                output, after = self.layer(x, before)
            return output, LearningState(after, carry)
        following = torch.cat([x[:, 1:], x[:, -1:]], 1)
        known = torch.ones(x.shape[:2], dtype=torch.bool, device=x.device)
        known[:, -1] = False
        self.last, after, carry = self.rule.accumulate(self.layer, Chunk(x, following, known), before, carry)
        assert isinstance(after, LayerState)
        return self.last.output, LearningState(after, carry)


def learns_locally(model: nn.Module, rule: Local | None = None) -> nn.Module:
    """Replace every predictive layer inside `model` by one that learns locally as it runs; returns the model.

    >>> model = nn.Sequential(nn.Linear(4, 3), PredictiveLayer(3, 8))
    >>> learns_locally(model)[1].__class__.__name__
    'LearnsLocally'
    """
    if isinstance(model, PredictiveLayer):
        return LearnsLocally(model, rule)
    for name, child in model.named_children():
        if not isinstance(child, LearnsLocally):
            setattr(model, name, learns_locally(child, rule))
    return model
