"""What is installed and what runs, in a few lines."""

from __future__ import annotations

import platform

import numpy as np

from rnncore.engine import chosen_build, installed_builds, kernels, runnable_builds
from rnncore.engine.threads import explain_threads

__version__ = "0.1.0"


def show_config() -> None:
    """Print the version, the build in use and why, the builds at hand and the thread count."""
    build, reason = chosen_build()
    module = kernels(np.float32)
    print(f"rnncore    {__version__}")
    print(f"build      {build}: {reason}")
    print(f"vectors    {module.lanes} float32; panels of up to {module.panel} columns")
    products = ", ".join(f"{name} by {how}" for name, how in module.products().items())
    print(f"products   {products}")
    print(f"installed  {', '.join(installed_builds())}")
    print(f"processor  {platform.machine()}, runs {', '.join(runnable_builds())}")
    print(f"threads    {explain_threads()}")
    print(f"numpy      {np.__version__}")
