"""Instruments that look inside a stack, trained or not: `pcrnn probe KIND RUN`.

Each takes a stack and, where it needs one, a passage, changes neither, and returns a NamedTuple of tensors whose
`table()` and `words()` say what was found. Probes compute in double precision on the CPU.

    frequency    gain and phase of every layer at every frequency of the input
    impulse      how long every layer keeps an impulse, with recurrence and without
    jacobian     eigenvalues of one whole update near a fixed point: stable, unstable, oscillating
    timescales   time constants of every unit, by its decays and by the autocorrelation of its states
    euler        a stack of leaky cells against the differential equation it discretises
"""

from pcrnn.probes.drive import noise as noise
from pcrnn.probes.euler import EulerConvergence as EulerConvergence
from pcrnn.probes.euler import euler as euler
from pcrnn.probes.frequency import FrequencyResponse as FrequencyResponse
from pcrnn.probes.frequency import frequency as frequency
from pcrnn.probes.impulse import ImpulseResponse as ImpulseResponse
from pcrnn.probes.impulse import impulse as impulse
from pcrnn.probes.jacobian import Linearised as Linearised
from pcrnn.probes.jacobian import jacobian as jacobian
from pcrnn.probes.timescales import Timescales as Timescales
from pcrnn.probes.timescales import timescales as timescales
