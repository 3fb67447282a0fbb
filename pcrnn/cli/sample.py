"""The command `pcrnn sample`: what a run writes or plays."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import arg

from pcrnn.cli.args import DeviceArgs, warn
from pcrnn.errors import UsageError

if TYPE_CHECKING:
    from pcrnn.data import Source, TextSource
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
    from pcrnn.analysis.generate import sample_music, sample_text
    from pcrnn.data import MusicSource, TextSource
    from pcrnn.data.music import write_midi
    from pcrnn.runs.load import load_run

    run = load_run(command.run, device=command.device)
    warn(run.warnings)
    draws = {"temperature": command.temperature, "seed": command.seed}
    if isinstance(run.source, MusicSource):
        if command.prompt is not None:
            raise UsageError("prompt: expected none for music, which goes on from the run's own; leave it out")
        path = command.out or command.run / "sample.mid"
        roll = sample_music(run.stack, run.source, command.length, **draws)
        write_midi(path, roll, run.source.frames_per_beat)
        print(path)
        return 0
    if not isinstance(run.source, TextSource):
        raise UsageError(
            f"{command.run}: expected a run trained on text or music, got one trained on a {run.source.kind}; "
            "pcrnn forecast goes on from a series"
        )
    prompt = _opening(run.source) if command.prompt is None else command.prompt
    text = prompt + sample_text(run.stack, run.source, prompt, command.length, **draws)
    if command.out is None:
        print(text)
    else:
        command.out.write_text(text, encoding="utf-8", errors="backslashreplace")
        print(command.out)
    return 0


def show_sample(stack: "PredictiveStack", source: "Source", length: int = 300) -> None:
    from pcrnn.analysis.generate import sample_text
    from pcrnn.data import TextSource

    if isinstance(source, TextSource):
        prompt = _opening(source)
        print(f"sample, going on from {prompt!r}")
        for line in sample_text(stack, source, prompt, length).splitlines():
            print(f"  | {line}")


def _opening(source: "TextSource", length: int = 40) -> str:
    """The first words of the validation split."""
    return source.decode(source.sequence("valid")[:length])
