"""The table of who reads a stream once.

A contender is a function from a stream, settings and a seed to a `OnePass`. Those that learn, learn with AdamW at a
constant rate; networks have as many parameters as the stack, and the same likelihood.
"""

from .baselines import copy_last, counts
from .chunked import LOCAL, network, stack
from .every_step import every_step
from .one_pass import Contender, Stream

LEARNERS: dict[str, Contender] = {
    "local, chunk 1": every_step,
    "local, chunk 8": stack(LOCAL, 8),
    "bptt, chunk 8": stack("bptt", 8),
    "bptt, chunk 32": stack("bptt", 32),
    "LSTM, chunk 8": network("LSTM", 8),
    "LSTM, chunk 32": network("LSTM", 32),
    "GRU, chunk 8": network("GRU", 8),
    "GRU, chunk 32": network("GRU", 32),
}
"""Those that learn, by the steps from one update to the next."""
OF_VALUES: dict[str, Contender] = {"copy-last": copy_last}
OF_SYMBOLS: dict[str, Contender] = {"unigram": counts(0), "bigram": counts(1)}


def contenders(stream: Stream) -> dict[str, Contender]:
    """Everybody who reads such a stream, by name."""
    return LEARNERS | (OF_SYMBOLS if stream.symbols else OF_VALUES)
