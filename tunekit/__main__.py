"""`python -m tunekit` is the command `tunekit`."""

from tunekit.cli import main

if __name__ == "__main__":
    main()
