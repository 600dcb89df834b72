"""A fleet on one machine: hosts, gateways and brokers in network namespaces, and what goes wrong between them."""
