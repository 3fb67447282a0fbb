"""Data sets: the sequences a stack observes, split by position, and the lanes that feed it in chunks.

Example:
    >>> source = open_source("pydoc")
    >>> lanes = Lanes(source.sequence("train"), batch=32, chunk=128)
    >>> x, restart = lanes.read(0)
    >>> x.shape, restart
    (torch.Size([32, 129]), True)
"""

from pcrnn.data.answers import Excerpt as Excerpt
from pcrnn.data.answers import Opening as Opening
from pcrnn.data.answers import Piece as Piece
from pcrnn.data.answers import Track as Track
from pcrnn.data.genome import GenomeSource as GenomeSource
from pcrnn.data.labelled import LabelledSource as LabelledSource
from pcrnn.data.lanes import Lanes as Lanes
from pcrnn.data.music import MusicSource as MusicSource
from pcrnn.data.readers import open_as as open_as
from pcrnn.data.readers import open_beside as open_beside
from pcrnn.data.readers import open_source as open_source
from pcrnn.data.series import SeriesSource as SeriesSource
from pcrnn.data.source import Reader as Reader
from pcrnn.data.source import Source as Source
from pcrnn.data.source import Split as Split
from pcrnn.data.text import TextSource as TextSource
from pcrnn.data.video import VideoSource as VideoSource
from pcrnn.tables import READERS as READERS
