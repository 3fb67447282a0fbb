"""Recurrent cells, one a file; `CELLS` names them. What a cell is, `pcrnn.nn.cells.cell` explains."""

from pcrnn.nn.cells.cell import Cell as Cell
from pcrnn.nn.cells.cell import CellActivity as CellActivity
from pcrnn.nn.cells.gated import GatedCell as GatedCell
from pcrnn.nn.cells.gru import GRUCell as GRUCell
from pcrnn.nn.cells.leaky import LeakyCell as LeakyCell
from pcrnn.nn.cells.lstm import LSTMCell as LSTMCell
from pcrnn.nn.cells.rnn import RNNCell as RNNCell
from pcrnn.nn.cells.rotating import RotatingCell as RotatingCell
from pcrnn.tables import CELLS as CELLS


def make(cell: str | Cell, hidden_size: int, max_time_constant: float) -> Cell:
    """The cell of that name, new, or the one given.

    Raises ValueError for a name that is none and for a cell of another number of units.
    """
    if isinstance(cell, str):
        return CELLS[cell](hidden_size, max_time_constant)
    if cell.hidden_size != hidden_size:
        raise ValueError(f"cell: expected one of {hidden_size} units, got one of {cell.hidden_size}")
    return cell
