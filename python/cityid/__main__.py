"""`python -m cityid` is `cityid`."""

from cityid.cli import main

main()
