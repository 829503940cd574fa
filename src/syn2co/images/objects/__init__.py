"""Remote objects: fetched once by fsspec into a bounded cache, then read as files."""
