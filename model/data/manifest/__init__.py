"""One form for every labelled set of photos: a manifest, its files, its checks."""
