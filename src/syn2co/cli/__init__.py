"""The command line: options and one library call a command."""
