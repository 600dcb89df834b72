"""What holds for every layout, record and value that Hypothesis can think of."""
