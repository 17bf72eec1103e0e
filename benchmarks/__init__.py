"""What `make bench` runs: CloudArc as it is shipped, its peers, and the bars that it is held to."""
