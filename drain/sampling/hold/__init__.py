"""The hold: a crash-safe log in files of the drain's own, where spans wait for the decision on their trace."""
