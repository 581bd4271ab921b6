"""`python -m reminding.cli`: the same as `python -m reminding`."""

from reminding.cli import main

if __name__ == "__main__":
    main()
