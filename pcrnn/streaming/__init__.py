"""Learning from an endless stream, one observation at a time; `pcrnn.Online` is its front door.

online       Online: score, learn from and forecast a stream
score        what is said of an observation
general      the engine for every stack and rule, by `Learner`
compiled     the engine for most of them, one call of compiled code a step; `loop` is what it calls
stream       what is carried beside the stack: scale, clock, tail and range of the stream
scaling      running standardisation that never looks ahead
clock        calendar covariates from times
likelihood   how unlikely recent surprise is, given its own past
"""
