"""The protocols of evaluation, one file each."""
