"""Sites and their spans: what is bound once where spans are emitted, and what a `with` block makes of it."""
