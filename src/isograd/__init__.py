"""isograd tells whether signal and gradient survive the depth of a PyTorch network."""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from isograd.checking import assert_trainable as assert_trainable
    from isograd.checking import check as check
    from isograd.diagnosis import diagnose as diagnose
    from isograd.errors import DataError as DataError
    from isograd.errors import InputError as InputError
    from isograd.errors import IsogradError as IsogradError
    from isograd.errors import LossError as LossError
    from isograd.errors import ModelError as ModelError
    from isograd.errors import PredictionError as PredictionError
    from isograd.errors import StopTraining as StopTraining
    from isograd.errors import UntrainableError as UntrainableError
    from isograd.explaining import explain as explain
    from isograd.findings import Diagnosis as Diagnosis
    from isograd.findings import Finding as Finding
    from isograd.findings import Severity as Severity
    from isograd.prediction.predicting import predict as predict
    from isograd.prediction.recording import recording as recording
    from isograd.probe.measuring import measure as measure
    from isograd.records import Reading as Reading
    from isograd.records import Record as Record
    from isograd.repairs.repairing import repair as repair
    from isograd.repairs.result import Repair as Repair
    from isograd.storage import open_run as open_run
    from isograd.watching import Watch as Watch
    from isograd.watching import watch as watch

_HOMES = {
    "check": "isograd.checking",
    "assert_trainable": "isograd.checking",
    "diagnose": "isograd.diagnosis",
    "explain": "isograd.explaining",
    "measure": "isograd.probe.measuring",
    "predict": "isograd.prediction.predicting",
    "recording": "isograd.prediction.recording",
    "repair": "isograd.repairs.repairing",
    "open_run": "isograd.storage",
    "watch": "isograd.watching",
    "Watch": "isograd.watching",
    "StopTraining": "isograd.errors",
    "Diagnosis": "isograd.findings",
    "Finding": "isograd.findings",
    "Severity": "isograd.findings",
    "Reading": "isograd.records",
    "Record": "isograd.records",
    "Repair": "isograd.repairs.result",
    "IsogradError": "isograd.errors",
    "InputError": "isograd.errors",
    "DataError": "isograd.errors",
    "LossError": "isograd.errors",
    "ModelError": "isograd.errors",
    "PredictionError": "isograd.errors",
    "UntrainableError": "isograd.errors",
}

__all__ = sorted([*_HOMES, "__version__"])


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'isograd' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
