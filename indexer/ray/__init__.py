"""Photos made into contents by the nodes of a Ray cluster (docs/cluster.md)."""
