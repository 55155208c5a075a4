"""`python -m peftbench` is the program."""

import os
import sys

from peftbench import binary

if sys.platform == "win32":
    import subprocess

    sys.exit(subprocess.call([binary(), *sys.argv[1:]]))
os.execv(binary(), [binary(), *sys.argv[1:]])
