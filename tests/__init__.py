"""The tests. `python -Im pytest` runs them against what is installed, not against the checkout."""
