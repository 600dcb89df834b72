"""The schema of a record: its attributes, where they lie, and how values become bytes and come back."""
