"""The command `pcrnn export`: the stack of a run as a folder to hand on."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from pcrnn.cli.args import CheckpointArgs


@dataclass(frozen=True, kw_only=True)
class Export(CheckpointArgs):
    """Write the stack of a run as config.json and model.safetensors, for model hubs and pcrnn.load."""

    folder: Annotated[Positional[Path], arg(metavar="FOLDER")]
    """A new folder."""

    def run(self) -> int:
        """Write it and print the files; returns the exit code."""
        from pcrnn.runs import export as hub

        folder = hub.export(self.load(), self.folder)
        for path in sorted(folder.iterdir()):
            print(path)
        return 0
