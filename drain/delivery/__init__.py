"""How encoded batches get to an exporter: what is sent next, by which thread, and what follows a failure."""
