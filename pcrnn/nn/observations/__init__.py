"""Observation models, by the kind of what is observed; what one is, `pcrnn.nn.observations.observation` explains."""

from pcrnn.nn.observations.bernoulli import Bernoulli as Bernoulli
from pcrnn.nn.observations.bernoulli import JointBernoulli as JointBernoulli
from pcrnn.nn.observations.categorical import Categorical as Categorical
from pcrnn.nn.observations.observation import Observation as Observation
from pcrnn.nn.observations.observation import StackDefaults as StackDefaults
from pcrnn.nn.observations.poisson import Poisson as Poisson
from pcrnn.nn.observations.real import Gaussian as Gaussian
from pcrnn.nn.observations.real import RealObservation as RealObservation
from pcrnn.nn.observations.real import StudentT as StudentT
