"""Tables from CSV, NumPy and Parquet files as series.

Shapes: T rows, D columns that are channels.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pcrnn.data.calendar import Clock
from pcrnn.data.formats.content import holds
from pcrnn.data.formats.csv_file import read_csv
from pcrnn.data.formats.npy_file import read_npy
from pcrnn.data.formats.parquet_file import read_parquet
from pcrnn.data.formats.table import Columns, Table, numbered, take
from pcrnn.data.row_order import check_order
from pcrnn.data.series import SeriesSource, Standardisation
from pcrnn.data.series_columns import ColumnChoice, RunColumns
from pcrnn.data.series_options import KEPT, SeriesOptions
from pcrnn.data.source import Reader
from pcrnn.data.suspects import notes_on_values
from pcrnn.errors import CheckpointError


class SeriesReader(Reader):
    """Reads a .npy or a .parquet file, or any other as CSV.

    The option `columns` chooses some, `missing=skip` allows missing values, `fill` says what stands for one, `time`
    names the column of times, and `calendar` makes covariates of these. The others say how a file is written:

        header=yes|no       whether the first row holds names
        delimiter=;         what stands between cells; also tab and space
        skip=3              lines above the table
        decimal=,           the sign before a fraction
        thousands=.         the sign between groups of three digits
        dates=dmy|mdy|ymd   the order of day, month and year
        unit=s|ms|us|ns     times are Unix time; unit=excel: days as a spreadsheet counts them
        zone=UTC            times with an offset are read on the clocks of a zone
        sort=yes            rows are sorted by time

    Another file is read as that of the run was, where its own options do not say otherwise.
    """

    options = ("columns", "missing", "time", "calendar", *KEPT)
    suffixes = (".csv", ".tsv", ".npy", ".parquet")
    formats = ("table", "npy", "parquet", "text")

    def open(self, location: str, options: Mapping[str, str], state: Mapping[str, Any] | None) -> SeriesSource:
        path, said = Path(location), SeriesOptions.of(location, options, state)
        if holds(path, "npy"):
            said = said.without_times(location)
        standardisation = None if state is None else _restore(state)
        run = None if state is None or standardisation is None else RunColumns.of(state, len(standardisation.mean))
        choice = ColumnChoice(location, said, run)
        table = _read(path, choice, said)
        table = table._replace(values=said.how.without_fill(table.values))
        notes = (*said.notes, *choice.notes, *table.notes, *notes_on_values(table, location))
        table, order = check_order(table, location, sort=said.sort)
        source = SeriesSource(
            table.values,
            columns=table.columns,
            name=location,
            standardisation=standardisation,
            missing=said.how.missing,
            clock=_clock(table, said.features),
        )
        source.notes, source.written = (*notes, *order), dict(said.kept)
        source.places, source.width = table.places, table.width
        return source


def _read(path: Path, choice: ColumnChoice, said: SeriesOptions) -> Table:
    if holds(path, "parquet"):
        return read_parquet(path, choice, said.how)
    if holds(path, "npy"):
        values = read_npy(path)
        columns = Columns(numbered(values.shape[1]), named=False)
        return take(values, columns, choice(columns))
    return read_csv(path, choice, said.how, timed=said.time is not None)


def _clock(table: Table, features: tuple[str, ...]) -> Clock | None:
    if table.time_column is None or table.times is None:
        return None
    return Clock(table.time_column, table.times, features)


def _restore(state: Mapping[str, Any]) -> Standardisation:
    try:
        mean, scale = (np.array(state[key], np.float64) for key in ("mean", "scale"))
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"data state: expected numbers mean and scale, got {error!r}; it is damaged") from error
    finite = np.isfinite(mean).all() and np.isfinite(scale).all()
    if not (finite and mean.ndim == 1 and mean.shape == scale.shape and (scale > 0).all()):
        raise CheckpointError(
            f"data state: expected finite mean and positive scale per channel, got {mean}, {scale}; it is damaged"
        )
    return Standardisation(mean, scale)
