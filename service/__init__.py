"""Service room: HTTP and command line in front of the two search stages."""
