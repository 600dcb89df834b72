"""The store on disk for batches that wait: what is in it survives the drain."""
