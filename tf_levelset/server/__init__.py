"""A server for exported models, for machines without TensorFlow Serving's container."""
