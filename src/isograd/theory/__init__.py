"""Mean-field theory of wide networks in float64: what signal and gradient do on average.

Weights are independent with variance `weight_var` / fan_in (sigma_w^2 / fan_in), biases with
variance `bias_var` (sigma_b^2). An activation is whatever `activation` takes: a name, a torch
module or functional, any elementwise callable.
"""

# Not lazy: a module named like its function would take the function's place at its first import.
from isograd.theory.activations import Activation as Activation
from isograd.theory.activations import activation as activation
from isograd.theory.criticality import Critical as Critical
from isograd.theory.criticality import CriticalLine as CriticalLine
from isograd.theory.criticality import Threshold as Threshold
from isograd.theory.criticality import critical as critical
from isograd.theory.criticality import critical_line as critical_line
from isograd.theory.diagram import PhaseDiagram as PhaseDiagram
from isograd.theory.diagram import phase_diagram as phase_diagram
from isograd.theory.fixed_points import FixedPoint as FixedPoint
from isograd.theory.fixed_points import Phase as Phase
from isograd.theory.fixed_points import phase as phase
from isograd.theory.gains import Gains as Gains
from isograd.theory.gains import gains as gains
from isograd.theory.maps import Correlation as Correlation
from isograd.theory.maps import Trajectory as Trajectory
from isograd.theory.maps import correlation_map as correlation_map
from isograd.theory.maps import gradient_similarity as gradient_similarity
from isograd.theory.maps import length_map as length_map
from isograd.theory.maps import trajectory as trajectory
