"""The command `pcrnn watch`: learn from a live stream, and say how surprising each observation was.

command   the command: its input, its folder, its signals
flags     what can be asked of it
watcher   Watcher: reads the input, learns, writes, saves
inputs    what pieces of an input are observations: rows of numbers, or characters
scores    rows of scores, on standard output or at the end of a file
state     what a stream keeps for good
notes     what is said on standard error
stop      signals
"""
