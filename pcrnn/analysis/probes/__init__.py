"""Probes: measurements inside a stack, trained or not: `pcrnn probe NAME RUN`.

Each takes a stack and, where it needs one, a passage, changes neither, and returns a NamedTuple of tensors whose
`table()` and `summary()` say what it means. Probes compute in double precision on the CPU. Each file also has the
probe's flags, as a dataclass that `pcrnn.tables.PROBES` names; `pcrnn.analysis.probes.target` says what that is.

    frequency    gain and phase of every layer at every frequency of the input
    impulse      how long every layer keeps an impulse, with recurrence and without
    jacobian     eigenvalues of one whole update near a fixed point: stable, unstable, oscillating
    timescales   time constants of every unit, by its decays and by the autocorrelation of its states
    euler        a stack of leaky cells against the differential equation it discretises
    gradients    how much of the gradient reaches the bottom layer, over depths, skip connections, losses and rules
    lags         how far back in time every layer's gradient reaches, under every rule
    gates        how much of a signal passes both gates between two stacked LSTM layers

`gradient_paths` counts the paths of a gradient from the top layer to the bottom one.
"""

from pcrnn.analysis.probes.drive import noise as noise
from pcrnn.analysis.probes.euler import EulerConvergence as EulerConvergence
from pcrnn.analysis.probes.euler import euler as euler
from pcrnn.analysis.probes.frequency import FrequencyResponse as FrequencyResponse
from pcrnn.analysis.probes.frequency import frequency as frequency
from pcrnn.analysis.probes.gates import GatePassage as GatePassage
from pcrnn.analysis.probes.gates import gates as gates
from pcrnn.analysis.probes.gradients import GradientNorms as GradientNorms
from pcrnn.analysis.probes.gradients import over_depths as over_depths
from pcrnn.analysis.probes.impulse import ImpulseResponse as ImpulseResponse
from pcrnn.analysis.probes.impulse import impulse as impulse
from pcrnn.analysis.probes.jacobian import Linearised as Linearised
from pcrnn.analysis.probes.jacobian import jacobian as jacobian
from pcrnn.analysis.probes.lags import LagNorms as LagNorms
from pcrnn.analysis.probes.lags import over_lags as over_lags
from pcrnn.analysis.probes.paths import counted_paths as counted_paths
from pcrnn.analysis.probes.paths import gradient_paths as gradient_paths
from pcrnn.analysis.probes.timescales import Timescales as Timescales
from pcrnn.analysis.probes.timescales import timescales as timescales
