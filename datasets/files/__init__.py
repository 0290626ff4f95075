"""The files of data sets: decoding images and labels, and saying what is wrong."""
