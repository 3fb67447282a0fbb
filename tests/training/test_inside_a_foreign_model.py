"""Predictive layers inside somebody else's model, learning by their own rule while the rest uses backprop."""

import pytest
import torch
from torch import nn

from learning_rules import LearnsLocally, learns_locally
from pcrnn import Categorical, PredictiveLayer


class Tagger(nn.Module):
    """Linear embedding, predictive layer beside it, classifier over both: a foreign model."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.memory, self.head = nn.Linear(2, 6), PredictiveLayer(6, 16), nn.Linear(22, 2)

    def forward(self, x):
        h = self.embed(x)
        output, _ = self.memory(h)
        return self.head(torch.cat([h, output], -1))


def waves() -> torch.Tensor:
    """Sine waves of random phase on two channels, [8, 40, 2]."""
    return torch.sin(torch.arange(40) * 0.5 + 6 * torch.rand(8, 1)).unsqueeze(-1) * torch.ones(2)


def unexplained(model: Tagger) -> float:
    """Share of the variance of the layer's next input that the layer does not foresee, on waves it never met."""
    with torch.no_grad():
        h = model.embed(waves())
        activity, _ = model.memory.layer.observe(h)
        return ((activity.expectation[:, 4:-1] - h[:, 5:]).square().mean() / h[:, 5:].var((0, 1)).mean()).item()


def test_the_layer_learns_by_its_rule_and_the_rest_by_backprop():
    torch.manual_seed(0)
    model = learns_locally(Tagger())
    assert isinstance(model.memory, LearnsLocally)
    untrained = unexplained(model)
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(250):
        x = waves()
        later = (x[..., 0].roll(3, 1) > 0).long()  # what was seen three steps ago: needs memory
        optimiser.zero_grad()
        loss = nn.functional.cross_entropy(model(x)[:, 3:].flatten(0, 1), later[:, 3:].flatten())
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert sum(losses[-10:]) < 0.5 * sum(losses[:10])
    assert untrained > 0.9 and unexplained(model) < 0.1


def test_no_gradient_of_the_foreign_loss_enters_the_layer():
    torch.manual_seed(0)
    model, x, found = learns_locally(Tagger()), torch.randn(2, 5, 2), []
    for factor in (1, 1000):
        model.zero_grad()
        model.memory.layer.observation.reset_parameters()
        (factor * model(x).square().sum()).backward()
        found.append(model.memory.layer.weight.grad.clone())
        assert model.embed.weight.grad.abs().sum() > 0
    assert torch.equal(*found)


@pytest.mark.filterwarnings("ignore:::lightning")  # it warns of its own use of torch
def test_lightnings_automatic_optimisation_makes_the_steps_of_a_plain_loop(tmp_path):
    lightning = pytest.importorskip("lightning", reason="the package lightning is not installed")
    batches = [torch.randn(4, 10, 2) for _ in range(3)]

    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.model = learns_locally(Tagger())

        def training_step(self, x, index):
            return self.model(x).square().mean()

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), 0.1)

    trained, plain = Module(), Module()
    options = {"accelerator": "cpu", "logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = lightning.Trainer(max_epochs=1, default_root_dir=tmp_path, enable_model_summary=False, **options)
    trainer.fit(trained, torch.utils.data.DataLoader(batches, batch_size=None))
    optimiser = plain.configure_optimizers()
    for index, x in enumerate(batches):
        optimiser.zero_grad()
        plain.training_step(x, index).backward()
        optimiser.step()
    assert all(torch.equal(*pair) for pair in zip(trained.parameters(), plain.parameters(), strict=True))


def test_without_gradients_it_is_the_plain_layer():
    layer = PredictiveLayer(3, 4)
    x = torch.randn(2, 5, 3)
    wrapped = LearnsLocally(layer).eval()
    assert torch.equal(wrapped(x)[0], layer(x)[0]) and layer.weight.grad is None


def test_a_layer_that_expects_something_else_is_refused():
    layer = PredictiveLayer(3, 4, observation=Categorical(5))
    with pytest.raises(ValueError, match=r"must expect its own input \(3 real values\).*Categorical\(5\)"):
        LearnsLocally(layer)
