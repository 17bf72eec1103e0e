"""Faults that are planted into a server one at a time, and whether fuzz and tests notice them."""
