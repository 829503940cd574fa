"""From files to pixels: sources, their index, decoding, and what is left out."""
