"""``python -m sync.cli``: the command where its script is not on the path."""

from sync.cli import main

if __name__ == "__main__":
    main(prog_name="labelloop")
