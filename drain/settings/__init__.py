"""What the operator may set: flags, variables and the file, and where each value came from."""
