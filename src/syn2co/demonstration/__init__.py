"""The demo: a small study of faking, or one run, on photographs that ship with the dependencies."""
