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
        from pcrnn.runs.checkpoint import verify

        folder = runs.existing(self.run_folder).checkpoints
        verdicts = verify(folder)
        width = max((len(verdict.folder.name) for verdict in verdicts), default=0)
        for path, size, damage in verdicts:
            print(f"{path.name:<{width}}  " + (f"ok       {size:,} bytes" if damage is None else f"damaged  {damage}"))
        sound = [path.name for path, _, damage in verdicts if damage is None]
        if not sound:
            raise CheckpointError(f"{folder}: expected a checkpoint that can be loaded, got none; start a new run")
        if len(sound) < len(verdicts):
            raise CheckpointError(
                f"{folder}: expected sound checkpoints only, got {len(verdicts) - len(sound)} damaged of "
                f"{len(verdicts)}; --resume goes on from {sound[0]}"
            )
        return 0
