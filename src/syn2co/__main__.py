"""`python -m syn2co`, as torchrun starts it."""

from syn2co.cli.main import main

main()
