"""Programs around the package."""
