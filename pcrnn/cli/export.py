"""The command `pcrnn export`: the stack of a run as a folder to hand on."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from pcrnn.cli.args import RunArgs, warn


@dataclass(frozen=True, kw_only=True)
class Export(RunArgs):
    """Write the stack of a run as config.json and model.safetensors, for model hubs and pcrnn.load."""

    folder: Annotated[Positional[Path], arg(metavar="FOLDER")]
    """A new folder."""

    def run(self) -> int:
        """Write it and print the files; returns the exit code."""
        from pcrnn.runs import export as hub
        from pcrnn.runs.load import load_run

        run = load_run(self.run_folder, device="cpu")
        warn(run.warnings)
        folder = hub.export(run, self.folder)
        for path in sorted(folder.iterdir()):
            print(path)
        return 0
