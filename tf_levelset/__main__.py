"""Runs the command `tf-levelset`, as `python -m tf_levelset`."""

import sys

from tf_levelset.commands.main import main

sys.exit(main())
