"""Where the drain delivers to: what an exporter is (`protocol`), and a file for each kind."""
