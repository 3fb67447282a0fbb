"""Backpropagation through time: the reference every local rule is measured against.

    loss = surprise[L] + auxiliary * sum_l surprise[l] + gate_coordination * penalty
           + sum_l 1/2 |r_t - r_hat_t|^2 / N    r constant
           + sum_{l<L} surprise[l]              eta constant, for the parameters of families that have some

The same forward pass as the local rule; autograd through all layers and all steps of the chunk; the state is carried,
detached, between chunks (truncated BPTT). The last but one term trains the state predictors, as in every rule, so that
the state surprise keeps its meaning. The update of a layer reads everything: activities of all layers at all steps of
the chunk. Source: Werbos, "Backpropagation through time" (1990); Williams & Peng (1990) for the truncation.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from learning_rules.credit import family_loss
from learning_rules.gates import penalty
from learning_rules.options import BPTTOptions
from learning_rules.rule import Hook, Model, ModelState, Result, no_op, unwrap_state, wrap_as_stack
from learning_rules.weights import read_once
from pcrnn.nn.activity import Chunk
from pcrnn.nn.gate_pairs import check_gates
from pcrnn.nn.layer import PredictiveLayer
from pcrnn.nn.stack import PredictiveStack


@dataclass(frozen=True, kw_only=True)
class BPTT(BPTTOptions):
    """Truncated backpropagation through time on the loss of the top level; `BPTTOptions` says what it takes."""

    def init(self, model: Model, batch_size: int) -> tuple[()]:
        """BPTT carries nothing but the state."""
        if self.gate_coordination:
            check_gates(wrap_as_stack(model, None)[0], "gate_coordination")
        return ()

    @torch.enable_grad()
    def accumulate(
        self,
        model: Model,
        chunk: Chunk,
        state: ModelState | None,
        carry: tuple[()],
        on_grad_ready: Hook = no_op,
    ) -> tuple[Result, ModelState, tuple[()]]:
        """Add the gradient of the chunk's loss to `.grad`; see `Rule.accumulate`."""
        stack, stack_state = wrap_as_stack(model, state)
        with read_once(stack):
            activity, after = stack.observe(chunk.observations, stack_state)
            scores = stack.score_targets(activity, chunk)
            weight = chunk.weights(scores.surprise.dtype)
            per_level = (scores.surprise * weight).sum((1, 2))
            loss = per_level[-1] + self.auxiliary * per_level[1:].sum() if self.auxiliary else per_level[-1]
            if self.gate_coordination:
                loss = loss + self.gate_coordination * penalty(activity)
            for layer, seen in zip(stack.layers, activity.layers, strict=True):
                above = None if seen.saved.previous_above is None else seen.saved.previous_above.detach()
                predicted = layer.predict(seen.saved.predictor_input.detach(), above)
                loss = loss + 0.5 * (seen.output.detach() - predicted).square().mean()
            targets = stack.without_covariates(chunk).targets
            for level, eta in zip(stack.levels[:-1], activity.expectations[:-1], strict=True):
                own = family_loss(level, eta, targets, weight.unsqueeze(-1))
                loss = loss if own is None else loss + own
            with _telling(stack, on_grad_ready):
                loss.backward()
        stack.adapt(activity, scores, chunk)
        surprise, output = scores.surprise.detach(), activity.output.detach()
        expectation = activity.expectations[-1].detach()
        result = Result(per_level[-1].detach(), surprise, activity.state_surprise, output, expectation)
        return result, unwrap_state(model, after.detach()), carry

    def clip_groups(self, model: Model) -> dict[str, list[nn.Parameter]]:
        """One group: BPTT's gradient is one vector."""
        return {"stack": list(model.parameters())}


@contextmanager
def _telling(stack: PredictiveStack, on_grad_ready: Hook) -> Iterator[None]:
    """Inside the block, call `learned` with a layer when autograd has filled in the last of its gradients."""
    handles = [] if on_grad_ready is no_op else [h for layer in stack.layers for h in _watched(layer, on_grad_ready)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _watched(layer: PredictiveLayer, on_grad_ready: Hook) -> list[RemovableHandle]:
    waiting = {parameter for parameter in layer.parameters() if parameter.requires_grad}

    def filled(parameter: torch.Tensor) -> None:
        waiting.discard(parameter)  # type: ignore[arg-type]
        if not waiting:
            on_grad_ready(layer)

    return [parameter.register_post_accumulate_grad_hook(filled) for parameter in tuple(waiting)]
