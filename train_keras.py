"""Trains with cross-entropy and with the level set loss: `tf-levelset train`."""

import os
import sys

# Read by TensorFlow when it is imported: its log of devices and libraries is not ours.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from tf_levelset.commands.cli import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
