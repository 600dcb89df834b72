"""What became of every span: the sums that must add up, and the metrics of spans."""
