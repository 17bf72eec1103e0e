"""The peers: what people would use instead, doing the same work for each request."""
