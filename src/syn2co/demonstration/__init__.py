"""The demo: both halves of Syn2Co on photographs that ship with the dependencies."""
