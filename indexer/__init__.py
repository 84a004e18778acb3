"""Indexer room: from a catalogue to a gallery on disk. The only room that imports faiss."""
