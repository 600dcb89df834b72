"""What the tools share: finding rings, reading them without disturbing anybody, filtering, printing."""
