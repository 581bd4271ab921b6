"""`python -m reminding`: the command line."""

from reminding.cli import main

if __name__ == "__main__":
    main()
