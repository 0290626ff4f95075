"""The commands of `tf-levelset`, one a file."""
