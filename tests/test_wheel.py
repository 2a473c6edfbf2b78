"""The wheel holds every file of the package, those that are no modules of it among them."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]

COLLECT = """
from setuptools import Distribution
packing = Distribution({"script_name": "setup.py"})
packing.parse_config_files(["pyproject.toml"])
build = packing.get_command_obj("build_py")
build.ensure_finalized()
print("\\n".join(build.get_outputs(include_bytecode=False)))
"""


def test_the_wheel_holds_every_file_of_the_package() -> None:
    # In a process of its own: setuptools changes how Python imports.
    told = subprocess.run(
        [sys.executable, "-c", COLLECT], cwd=ROOT, capture_output=True, text=True, check=True
    )
    packed = {line.partition("lib/")[2] for line in told.stdout.splitlines()}
    source = ROOT / "src"
    present = {
        str(path.relative_to(source))
        for path in (source / "isograd").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".so"
    }
    assert "isograd/integrations/site/sitecustomize.py" in packed
    assert present - packed == set()
