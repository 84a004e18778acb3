"""`threadmatch bench`: what this machine does, from one matrix product to the latency of a served search."""
