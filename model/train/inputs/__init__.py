"""What training sees: batches, cached maps and features."""
