"""A gallery past one machine: Milvus for the shortlist, a store of the Redis protocol for everything else."""
