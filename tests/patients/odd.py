"""The odd ones: networks that do what is allowed but rarely thought of; all of them run."""

from patients import odd_calls, odd_graphs, odd_states
from patients.patient import Build

ODD: dict[str, Build] = {
    name: factory
    for module in (odd_calls, odd_graphs, odd_states)
    for name, factory in vars(module).items()
    if hasattr(factory, "__wrapped__") and factory.__module__ == module.__name__
}
