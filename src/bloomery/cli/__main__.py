"""`python -m bloomery.cli VERB …`: how launchers start `bloomery` on each rank, whatever is on their path."""

from bloomery.cli.main import main

main()
