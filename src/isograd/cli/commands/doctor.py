"""`isograd doctor`: what isograd finds on this machine."""

import importlib.metadata
import platform
import sys
from typing import Any

import click

_NEEDED = ("torch", "numpy", "scipy", "rich", "click")

_OPTIONAL = {
    "scikit-learn": "data",
    "safetensors": "safetensors",
    "matplotlib": "figures",
    "tensorboard": "tensorboard",
    "wandb": "wandb",
    "mlflow-skinny": "mlflow",
    "pytorch-lightning": "lightning",
    "transformers": "transformers",
    "accelerate": "transformers",
}
"""Packages that a part needs, and the extra that brings them."""


EXAMPLE = """\
\b
Example:
  isograd doctor
"""


@click.command(short_help="Show versions, devices and backends.", epilog=EXAMPLE)
@click.option(
    "--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True
)
def command(form: str) -> None:
    """Show the versions, devices and backends that isograd finds on this machine."""
    facts = examine()
    if form == "json":
        import json

        click.echo(json.dumps(facts, indent=2))
        return
    for heading, entries in facts.items():
        click.echo(heading)
        for name, value in entries.items():
            click.echo(f"  {name:<17} {value}")


def examine() -> dict[str, dict[str, str]]:
    """What is installed and what can be computed on; works without torch, and says so."""
    return {
        "versions": {
            "isograd": _version("isograd"),
            "python": platform.python_version(),
            "platform": platform.platform(),
            **{name: _version(name) for name in _NEEDED},
        },
        "extras": {name: _extra(name, extra) for name, extra in _OPTIONAL.items()},
        "devices": _devices(),
        "statistics": _backends(),
    }


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "missing"


def _extra(name: str, extra: str) -> str:
    version = _version(name)
    return f"missing: pip install 'isograd[{extra}]'" if version == "missing" else version


def _backends() -> dict[str, str]:
    """Ways of reading tensors, and what is slower without those that are missing."""
    try:
        from isograd.statistics.backends import BACKENDS
    except (ImportError, OSError):
        return {"none": "needs torch"}
    return {
        one.code: one.missing() or f"reads {', '.join(sorted(one.devices))}" for one in BACKENDS
    }


def _devices() -> dict[str, str]:
    try:
        import torch
    except (ImportError, OSError) as error:  # OSError: a shared library it needs is missing
        return {"torch": f"cannot be imported by {sys.executable}: {error}"}
    found = {"torch": f"build {torch.__version__}", "cpu": f"{torch.get_num_threads()} threads"}
    for index in range(torch.cuda.device_count()):
        found[f"cuda:{index}"] = torch.cuda.get_device_name(index)
    backends: dict[str, Any] = {"mps": torch.backends.mps, "xpu": torch.xpu}
    found.update({name: "available" for name, kind in backends.items() if kind.is_available()})
    return found
