"""One trial on one fold after the other; no policy."""
