"""An IPython kernel that ends with the process that started it: `python -m zephyr_lab.engine.kernel -f CONNECTION`."""

import os
import sys

from zephyr_lab.engine.processes import die_with_parent

if __name__ == "__main__":
    die_with_parent(int(os.environ["ZEPHYR_LAB_KERNEL_PARENT"]))
    sys.path[0] = ""  # as in any kernel: the working directory, not this package's folder
    from ipykernel import kernelapp

    kernelapp.launch_new_instance()
