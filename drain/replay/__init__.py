"""The command `ringbuf-drain replay`: delivers spans from quarantined rings, dead letters and damaged spools."""
