"""The command `pcrnn detect`: where data surprised a trained stack, as a table and a few lines."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import arg

from pcrnn.cli.args import DataArgs, warn, write_csv
from pcrnn.errors import UsageError
from pcrnn.validation import AT_LEAST_0, AT_LEAST_1, SHARE

if TYPE_CHECKING:
    from pcrnn.analysis.anomalies import Anomalies
    from pcrnn.data import Source

# Everything that needs torch is imported by the function that needs it, as in pcrnn/cli/main.py.


@dataclass(frozen=True, kw_only=True)
class Detect(DataArgs):
    """Find the steps that surprise a trained stack more than nearly all it was validated on; writes CSV."""

    quantile: Annotated[float, SHARE] = 0.999
    """Share of the validation split that counts as normal."""
    window: Annotated[int, AT_LEAST_1] = 1
    """Steps over which the surprise is averaged."""
    regimes: Annotated[int, AT_LEAST_0] = 0
    """Look for regimes, too: stretches of at least so many steps that are more or less surprising than those before."""
    out: Annotated[Path | None, arg(metavar="FILE.csv")] = None
    """Where to write; by default RUN/anomalies.csv."""

    def run(self) -> int:
        """Write the table and print how many anomalies and regimes there are; returns the exit code."""
        from pcrnn.analysis.anomalies import find_anomalies

        run = self.load()
        if run.source.target() is not None:
            raise UsageError(
                f"{self.run_folder}: expected a run that expects its next observation, got one that expects labels; "
                "pcrnn plot surprise shows how surprising they are"
            )
        source = run.source
        options = {"quantile": self.quantile, "window": self.window, "shortest": self.regimes}
        anomalies = find_anomalies(run.stack, run.trained_on, source, **options)
        warn(anomalies.notes)
        table = self.out or self.run_folder / "anomalies.csv"
        columns = ["kind", "first", "last", "peak", "surprise", "threshold", "what"]
        write_csv(table, columns, _rows(anomalies, source), named=self.out is not None)
        print(source.describe())
        threshold = f"{anomalies.threshold / source.nats_per_unit:.4g} {source.unit}"
        print(
            f"{len(anomalies.spans)} anomalies in {len(anomalies.surprise):,} steps, more surprising than {threshold}"
        )
        if self.regimes:
            print(f"{len(anomalies.regimes) or 'no'} different regimes of at least {self.regimes:,} steps")
        for first, end, mean in anomalies.regimes:
            mean_in_units = f"{mean / source.nats_per_unit:.4g} {source.unit}"
            print(f"  {first:>9,} to {end - 1:>9,}  {mean_in_units}  {source.times_in_words(first, end)}".rstrip())
        print(table)
        return 0


def _rows(anomalies: "Anomalies", source: "Source") -> list[list[object]]:
    """A row an anomaly, then a row a regime; surprise and threshold in nats."""

    def peak(first: int, end: int) -> int:
        return first + int(anomalies.surprise[first:end].argmax())

    rows: list[list[object]] = []
    for first, end in anomalies.spans:
        at = peak(first, end)
        what = source.in_words(first, end)
        rows.append(["anomaly", first, end - 1, at, anomalies.surprise[at], anomalies.threshold, what])
    for first, end, mean in anomalies.regimes:
        rows.append(["regime", first, end - 1, peak(first, end), mean, "", source.times_in_words(first, end)])
    return rows
