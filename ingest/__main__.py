"""`python -m ingest`: the same command line as `activity-ingest`."""

from ingest.cli import main

if __name__ == "__main__":
    main()
