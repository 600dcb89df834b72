"""What a fleet takes: costs that are measured here, what a model makes of them, and a small fleet that tests it."""
