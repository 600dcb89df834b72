"""The reader's side of the ring directory: which rings there are, and what is taken out of them."""
