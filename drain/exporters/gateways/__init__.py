"""Several endpoints: which of them a request goes to, and which there are."""
