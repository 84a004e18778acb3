"""Tables that people bring, read a row at a time: CSV, JSON Lines, Parquet and Arrow, packed or in parts."""
