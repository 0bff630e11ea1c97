"""What importing a part of kfp brings along."""

import subprocess
import sys

WITHOUT_CLIENT = """
import os, sys
from kedro_kfp.extra import kfp_module
compiler, dsl = kfp_module("kfp.compiler", "a test"), kfp_module("kfp.dsl", "a test")
assert "kubernetes" not in sys.modules and "kfp.client" not in sys.modules, "its client came too"
assert dsl.ParallelFor and compiler.Compiler
assert "_KFP_RUNTIME" not in os.environ
assert kfp_module("kfp.client", "a test").Client
"""


def test_compiling_brings_no_api_client_and_talking_to_kubeflow_does():
    """In a process of its own: here kfp is imported already."""
    done = subprocess.run([sys.executable, "-c", WITHOUT_CLIENT], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
