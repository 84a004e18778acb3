"""The official layouts of public data sets, read as manifest rows with their own splits, boxes and protocols.

No data comes with the project: each set has its own terms, see docs/data.md.
"""
