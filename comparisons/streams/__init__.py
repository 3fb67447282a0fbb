"""One pass over a stream: every observation is scored before it is learned from.

nab, nab_score    the Numenta Anomaly Benchmark: its series, and its score of a detector
controls          what a detector must be compared with, and how a raw score becomes a likelihood
scaled            the running standardisation that everybody who reads real values shares
one_pass          a stream, and what a contender makes of it
chunked           stacks and recurrent networks, which learn after every few steps
baselines         a copy of the last value, and counts of symbols
contenders        the table of them all
"""
