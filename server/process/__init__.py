"""The process: its clock, its children and its shutdown."""
