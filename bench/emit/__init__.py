"""The functions that emit, ours and the peers', and what empties the ring meanwhile."""
