"""One pass over a stream: every observation is scored before it is learned from.

streams           the suite, made of parts:
  one_stream        text and weather, each learner at its best rate
  detection         labelled anomalies, in two folds; detection_part says and draws what came of it
  step_cost         what a step costs; step_cost_part says and draws it; braintrace_step is a peer, where installed
  river_series      forecasts by River's interface; forecast_part says and draws them
parts, words      what a part is, and what may be said of learners beside each other
nab, nab_score    the Numenta Anomaly Benchmark: its series, and its score of a detector
controls          what a detector must be compared with, and how a surprise becomes an anomaly score
scaled            the running standardisation that everybody who reads real values shares
one_pass          a stream, and what a contender makes of it
every_step        `pcrnn.Online`, which learns after every step
chunked           stacks and recurrent networks, which learn after every few steps
baselines         a copy of the last value, and counts of symbols
contenders        the table of them all
"""
