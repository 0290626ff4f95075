"""Values that more than one part of the package needs."""

IMAGENET_MEAN_RGB = (122.675, 116.669, 104.008)
"""Mean colour of ImageNet, 0–255, as DeepLab subtracts it."""

IGNORE_CLASS = 255
"""The label of void pixels in every data set, whatever its files use."""

OUTPUTS = ("auto", "logits", "softmax", "sigmoid")
"""What the outputs of a net may be; "auto" reads it from the net."""
