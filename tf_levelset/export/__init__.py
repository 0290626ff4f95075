"""Models in the formats that serve them."""
