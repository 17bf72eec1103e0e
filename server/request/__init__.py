"""One request: its context, route, caller, rate limit and operation."""
