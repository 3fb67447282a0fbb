"""The command `pcrnn detect`: where data surprised a trained stack, as a table and a few lines."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import arg

from pcrnn.cli.args import DeviceArgs, warn, write_csv
from pcrnn.errors import UsageError

if TYPE_CHECKING:
    from pcrnn.analysis.anomalies import Anomalies
    from pcrnn.data import Source

# Everything that needs torch is imported by the function that needs it, as in pcrnn/cli/main.py.


@dataclass(frozen=True, kw_only=True)
class Detect(DeviceArgs):
    """Find the steps that surprise a trained stack more than nearly all it was validated on; writes CSV."""

    data: str | None = None
    """The file to watch; by default the run's own."""
    quantile: float = 0.999
    """Share of the validation split that counts as normal."""
    window: int = 1
    """Steps over which the surprise is averaged."""
    regimes: int = 0
    """Look for regimes, too: stretches of at least so many steps that are more or less surprising than those before."""
    out: Annotated[Path | None, arg(metavar="FILE.csv")] = None
    """Where to write; by default RUN/anomalies.csv."""


def detect(command: Detect) -> int:
    """Watch, write the table, say how many anomalies and regimes there are; returns the exit code."""
    from pcrnn.analysis.anomalies import find_anomalies
    from pcrnn.data import open_source
    from pcrnn.runs.load import load_run

    run = load_run(command.run, device=command.device)
    warn(run.warnings)
    if run.source.target() is not None:
        raise UsageError(
            f"{command.run}: expected a run that expects its next observation, got one that expects labels; "
            "pcrnn plot surprise shows how surprising they are"
        )
    watched = run.source if command.data is None else open_source(command.data, state=run.source.state())
    options = {"quantile": command.quantile, "window": command.window, "shortest": command.regimes}
    found = find_anomalies(run.stack, run.source, watched, **options)
    table = command.out or command.run / "anomalies.csv"
    write_csv(table, ["kind", "first", "last", "peak", "surprise", "threshold", "what"], _rows(found, watched))
    print(watched.describe())
    threshold = f"{found.threshold / watched.nats_per_unit:.4g} {watched.unit}"
    print(f"{len(found.spans)} anomalies in {len(found.surprise):,} steps, more surprising than {threshold}")
    if command.regimes:
        print(f"{len(found.regimes) or 'no'} different regimes of at least {command.regimes:,} steps")
    for first, end, mean in found.regimes:
        mean_in_units = f"{mean / watched.nats_per_unit:.4g} {watched.unit}"
        print(f"  {first:>9,} to {end - 1:>9,}  {mean_in_units}  {watched.times_in_words(first, end)}".rstrip())
    print(table)
    return 0


def _rows(found: "Anomalies", watched: "Source") -> list[list[object]]:
    """A row an anomaly, then a row a regime; surprise and threshold in nats."""

    def peak(first: int, end: int) -> int:
        return first + int(found.surprise[first:end].argmax())

    rows: list[list[object]] = []
    for first, end in found.spans:
        at = peak(first, end)
        what = watched.in_words(first, end)
        rows.append(["anomaly", first, end - 1, at, found.surprise[at], found.threshold, what])
    for first, end, mean in found.regimes:
        rows.append(["regime", first, end - 1, peak(first, end), mean, "", watched.times_in_words(first, end)])
    return rows
