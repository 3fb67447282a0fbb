"""The command `pcrnn sample`: what a run writes or plays."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import arg

from pcrnn.cli.args import DeviceArgs, warn
from pcrnn.errors import UsageError

if TYPE_CHECKING:
    from pcrnn.data import Source
    from pcrnn.nn.stack import PredictiveStack

# Everything that needs torch is imported by the function that needs it: --help must not wait for it.


@dataclass(frozen=True, kw_only=True)
class Sample(DeviceArgs):
    """Let a run that was trained on text write."""

    prompt: str | None = None
    """What to go on from; by default the first words of the validation split."""
    length: int = 300
    """How many symbols to write."""
    temperature: float = 1.0
    """Below 1 it takes fewer risks."""
    seed: int = 0
    """Another seed writes another text."""
    out: Annotated[Path | None, arg(metavar="FILE")] = None
    """Where to write; by default a text is printed and music is RUN/sample.mid."""


def run_sample(command: Sample) -> int:
    from pcrnn.analysis.evaluate import WARM_UP
    from pcrnn.analysis.generate import sample
    from pcrnn.runs.load import load_run

    run = load_run(command.run, device=command.device)
    warn(run.warnings)
    opening = run.source.opening(command.prompt, WARM_UP)
    if opening is None:
        raise UsageError(
            f"{command.run}: expected a run trained on text or music, got one trained on a {run.source.kind}; "
            "pcrnn forecast goes on from a series"
        )
    drawn = sample(run.stack, opening.steps, command.length, temperature=command.temperature, seed=command.seed)
    content = opening.render(drawn)
    if isinstance(content, bytes):
        path = command.out or command.run / f"sample{opening.suffix}"
        path.write_bytes(content)
        print(path)
    elif command.out is None:
        print(f"{opening.text or ''}{content}")
    else:
        command.out.write_text(f"{opening.text or ''}{content}", encoding="utf-8", errors="backslashreplace")
        print(command.out)
    return 0


def show_sample(stack: "PredictiveStack", source: "Source", length: int = 300) -> None:
    """What a stack writes after the first words of the validation split; nothing where the data is not a text."""
    from pcrnn.analysis.generate import sample

    opening = source.opening()
    if opening is not None and opening.text is not None:
        print(f"sample, going on from {opening.text!r}")
        for line in str(opening.render(sample(stack, opening.steps, length))).splitlines():
            print(f"  | {line}")
