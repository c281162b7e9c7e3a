"""Every module imports by itself, in the environment that the lock describes."""

import pkgutil
import subprocess
import sys

import zephyr_lab


def test_every_module_imports():
    # One fresh process for all: an import that only works after another test's would hide here otherwise.
    modules = [info.name for info in pkgutil.walk_packages(zephyr_lab.__path__, "zephyr_lab.")]
    code = """
import importlib, sys, traceback
failed = 0
for name in sys.argv[1:]:
    try:
        importlib.import_module(name)
    except Exception:
        failed += 1
        print(name, traceback.format_exc(limit=-2), sep=": ")
sys.exit(failed > 0)
"""
    done = subprocess.run([sys.executable, "-c", code, *modules], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
