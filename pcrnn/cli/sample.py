"""The command `pcrnn sample`: text or music drawn from a run."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import arg

from pcrnn.cli.args import DeviceArgs
from pcrnn.errors import UsageError
from pcrnn.validation import AT_LEAST_0, SEED, TEMPERATURE
from pcrnn.writing import write_file

if TYPE_CHECKING:
    from pcrnn.data import Source
    from pcrnn.nn.stack import PredictiveStack

# Everything that needs torch is imported by the function that needs it: --help must not wait for it.


@dataclass(frozen=True, kw_only=True)
class Sample(DeviceArgs):
    """Draw text or music from a trained stack."""

    prompt: str | None = None
    """Text to continue; by default the first words of the validation split."""
    length: Annotated[int, AT_LEAST_0] = 300
    """How many symbols (or frames of music) to draw."""
    temperature: Annotated[float, TEMPERATURE] = 1.0
    """Below 1 the distribution is sharper; 0 takes the likeliest symbol."""
    seed: Annotated[int, SEED] = 0
    """Seed of the draws."""
    out: Annotated[Path | None, arg(metavar="FILE")] = None
    """Where to write; by default a text is printed and music is RUN/sample.mid."""

    def run(self) -> int:
        """Print or write what it draws; returns the exit code."""
        from pcrnn.analysis.evaluate import WARM_UP
        from pcrnn.analysis.generate import sample

        run = self.load()
        opening = run.source.opening(self.prompt, WARM_UP)
        if opening is None:
            raise UsageError(
                f"{self.run_folder}: expected a run trained on text or music, got one trained on a {run.source.kind}; "
                "pcrnn forecast goes on from a series"
            )
        drawn = sample(run.stack, opening.steps, self.length, temperature=self.temperature, seed=self.seed)
        content = opening.render(drawn)
        if isinstance(content, bytes):
            path = self.out or self.run_folder / f"sample{opening.suffix}"
            write_file(path, content, follow=self.out is not None)
            print(path)
        elif self.out is None:
            print(f"{opening.text or ''}{content}")
        else:
            text = f"{opening.text or ''}{content}"
            write_file(self.out, text.encode("utf-8", "backslashreplace"), follow=True)
            print(self.out)
        return 0


def print_sample(stack: "PredictiveStack", source: "Source", length: int = 300) -> None:
    """Print what a stack draws after the first words of the validation split; nothing where the data is not a text."""
    from pcrnn.analysis.generate import sample

    opening = source.opening()
    if opening is not None and opening.text is not None:
        print(f"sample, going on from {opening.text!r}")
        for line in str(opening.render(sample(stack, opening.steps, length))).splitlines():
            print(f"  | {line}")
