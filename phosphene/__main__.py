"""`python -m phosphene` is `phosphene`."""

from phosphene.cli import main

main()
