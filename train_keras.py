"""Trains with cross-entropy and with the level set loss: `tf-levelset train`."""

import sys

from tf_levelset.commands.main import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
