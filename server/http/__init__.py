"""HTTP in and out: the protocol, request bodies and replies."""
