"""Record formats: bytes to Arrow columns with the position of every record."""
