"""What a span, a ring or an import costs, part by part."""
