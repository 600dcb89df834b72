"""The ring of a process: where it lies, what it is made from, its life over forks and removals."""
