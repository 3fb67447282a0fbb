"""What a rank of these tests does, and the one process it is compared with: `trained`.

Started by torchrun with a JSON file of jobs, `{"folder": ..., "jobs": {name: settings}}`; all are done one after the
other, so that ranks are started once.
"""

import json
import sys
from pathlib import Path

import safetensors.torch
import torch

from pcrnn.config import TrainConfig
from pcrnn.data import open_source
from pcrnn.training.parallel import Team
from pcrnn.training.train import Trainer


def trained(config: TrainConfig, folder: Path, team: Team | None = None) -> Trainer:
    """Train in float64; the leader leaves the whole run's tensors, each rank its own weights."""
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    trainer = Trainer(config, open_source(config.data), team=team)
    trainer.source.to_observations = doubled(trainer.source.to_observations)
    trainer.lanes = trainer.source.lanes(config.batch, config.chunk)
    for _ in range(config.steps):
        trainer.update()
    team = trainer.team
    weights = {name: tensor.clone() for name, tensor in trainer.stack.state_dict().items()}
    carried = trainer._memory()
    whole = {k: t.contiguous().clone() for k, t in (team.gather_state(weights) | team.gather_state(carried)).items()}
    row, valid = trainer.row(), trainer.evaluate()
    folder.mkdir(parents=True, exist_ok=True)
    safetensors.torch.save_file(weights, folder / f"rank_{team.rank}.safetensors")
    if team.is_main:
        safetensors.torch.save_file(whole, folder / "whole.safetensors")
        (folder / "row.json").write_text(json.dumps({"row": row, "valid": valid}))
    return trainer


def doubled(unpacked):
    """Real values in float64."""

    def of(stored):
        found = unpacked(stored)
        return found.double() if found.is_floating_point() else found

    return of


if __name__ == "__main__":
    from pcrnn.training.parallel.data import DataTeam
    from pcrnn.training.parallel.layers import LayerTeam
    from pcrnn.training.parallel.ranks import connected

    work = json.loads(Path(sys.argv[1]).read_text())
    with connected("cpu"):
        for name, settings in work["jobs"].items():
            config = TrainConfig.from_mapping(settings)
            kind = {"data": DataTeam, "layers": LayerTeam}[config.parallel]
            trained(config, Path(work["folder"]) / name, kind(config))
