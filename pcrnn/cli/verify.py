"""The command `pcrnn verify`: whether all checkpoints of a run are sound."""

from dataclasses import dataclass

from pcrnn.cli.args import RunArgs
from pcrnn.errors import CheckpointError
from pcrnn.runs import folder as runs


@dataclass(frozen=True, kw_only=True)
class Verify(RunArgs):
    """Read every checkpoint of a run and say which are sound; exit code 4 where one is not, or none is there."""

    def run(self) -> int:
        """Print a line a checkpoint; raises CheckpointError where one is damaged."""
        from pcrnn.runs import best
        from pcrnn.runs import checkpoint as checkpoints

        folder = runs.existing(self.run_folder).checkpoints
        of_steps = checkpoints.verify(folder)
        verdicts = [*of_steps, *best.verify(folder)]
        width = max((len(verdict.folder.name) for verdict in verdicts), default=0)
        for path, size, damage in verdicts:
            print(f"{path.name:<{width}}  " + (f"ok       {size:,} bytes" if damage is None else f"damaged  {damage}"))
        sound = [verdict.folder.name for verdict in of_steps if verdict.damage is None]
        damaged = sum(verdict.damage is not None for verdict in verdicts)
        if damaged:
            then = f"--resume goes on from {sound[0]}" if sound else "start a new run"
            raise CheckpointError(
                f"{folder}: expected sound checkpoints only, got {damaged} damaged of {len(verdicts)}; {then}"
            )
        if not sound:
            raise CheckpointError(
                f"{folder}: expected a checkpoint to go on from, got none; --resume begins the run at its first update"
            )
        return 0
