"""Sphinx in a process that ends with the one that started it; PID of the latter, then Sphinx's own arguments."""

import sys

from zephyr_lab.engine.processes import die_with_parent

if __name__ == "__main__":
    die_with_parent(int(sys.argv[1]))
    from sphinx.cmd.build import main

    sys.exit(main(sys.argv[2:]))
