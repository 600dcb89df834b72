"""The whole way of a span, with the drain and a receiver: rates, outages, kills."""
