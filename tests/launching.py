"""Runs launch.py as a user does, in a process of its own."""

import os
import pathlib
import subprocess
import sys

# XLA's flags for runs whose time goes into compiling: what is compiled is slower, and means the same.
COMPILE_QUICKLY = '--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false'


def launch(*arguments: str, timeout: float = 600) -> subprocess.CompletedProcess[str]:
    """Runs it in the project's folder, without what the tests' own process set for JAX."""
    return subprocess.run(
        [sys.executable, 'launch.py', *arguments],
        cwd=pathlib.Path(__file__).parents[1],
        env={name: value for name, value in os.environ.items() if not name.startswith(('JAX', 'XLA'))},
        capture_output=True,
        text=True,
        timeout=timeout,
    )
