"""`python -m isograd` is the command `isograd`."""

from isograd.cli import main

if __name__ == "__main__":
    main()
