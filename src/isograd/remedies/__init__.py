"""The remedies: one public file, one remedy. Each is usable alone: `apply("init-gain", …)`."""

from isograd.catalogue import Catalogue
from isograd.remedies._applying import apply, case_of
from isograd.remedies._losses import AlignedTargets, ClassLabels, InUnitsOfTargets, WeightedCode
from isograd.remedies._lsuv import lsuv_
from isograd.remedies._modules import Autocast, FiniteGradient, Scaled, Skip, WeightStandardized
from isograd.remedies._preprocessing import Preprocessed, ScaledOutputs, Standardize, Whiten
from isograd.remedies._remedy import FAMILIES, Case, Change, Plan, Remedy

REMEDIES: Catalogue[Remedy] = Catalogue(__name__, Remedy)  # type: ignore[type-abstract]  # only subclasses

__all__ = [
    "FAMILIES",
    "REMEDIES",
    "AlignedTargets",
    "Autocast",
    "Case",
    "Change",
    "ClassLabels",
    "FiniteGradient",
    "InUnitsOfTargets",
    "Plan",
    "Preprocessed",
    "Remedy",
    "Scaled",
    "ScaledOutputs",
    "Skip",
    "Standardize",
    "WeightStandardized",
    "WeightedCode",
    "Whiten",
    "apply",
    "case_of",
    "lsuv_",
]
