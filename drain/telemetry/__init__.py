"""What the drain shows of itself: metrics, health, its HTTP listener, and what systemd is told."""
