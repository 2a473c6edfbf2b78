"""Mean-field theory of wide networks in float64: what signal and gradient do on average.

Weights are independent with variance `weight_var` / fan_in (sigma_w^2 / fan_in), biases with
variance `bias_var` (sigma_b^2). An activation is whatever `activation` takes: a name, a torch
module or functional, any elementwise callable.
"""

# Not lazy: a module named like its function would take the function's place at its first import.
from isograd.theory.activations import Activation as Activation
from isograd.theory.activations import activation as activation
from isograd.theory.attention import PostNorm as PostNorm
from isograd.theory.attention import RankCollapse as RankCollapse
from isograd.theory.attention import post_norm as post_norm
from isograd.theory.attention import post_norm_factor as post_norm_factor
from isograd.theory.attention import rank_collapse as rank_collapse
from isograd.theory.attention import uniform_attention as uniform_attention
from isograd.theory.convolution import Pooled as Pooled
from isograd.theory.convolution import average_pool as average_pool
from isograd.theory.convolution import max_pool as max_pool
from isograd.theory.convolution import padding_factor as padding_factor
from isograd.theory.convolution import padding_profile as padding_profile
from isograd.theory.convolution import padding_shares as padding_shares
from isograd.theory.criticality import Critical as Critical
from isograd.theory.criticality import CriticalLine as CriticalLine
from isograd.theory.criticality import Threshold as Threshold
from isograd.theory.criticality import critical as critical
from isograd.theory.criticality import critical_line as critical_line
from isograd.theory.diagram import PhaseDiagram as PhaseDiagram
from isograd.theory.diagram import phase_diagram as phase_diagram
from isograd.theory.dropout import DropoutPhase as DropoutPhase
from isograd.theory.dropout import dropout_moments as dropout_moments
from isograd.theory.dropout import dropout_phase as dropout_phase
from isograd.theory.finite_width import Fluctuation as Fluctuation
from isograd.theory.finite_width import finite_width as finite_width
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
from isograd.theory.normalization import NormGrowth as NormGrowth
from isograd.theory.normalization import norm_growth as norm_growth
from isograd.theory.paths import Paths as Paths
from isograd.theory.paths import paths as paths
from isograd.theory.paths import poisson as poisson
from isograd.theory.recurrent import Recurrence as Recurrence
from isograd.theory.recurrent import RecurrentStep as RecurrentStep
from isograd.theory.recurrent import recurrence as recurrence
from isograd.theory.recurrent import recurrent_step as recurrent_step
from isograd.theory.residual import Residual as Residual
from isograd.theory.residual import residual as residual
from isograd.theory.spectrum import Spectrum as Spectrum
from isograd.theory.spectrum import spectrum as spectrum
from isograd.theory.transforms import Transform as Transform
from isograd.theory.transforms import transform as transform
