"""The figures of the pages: measured by one command, kept in one file, and written into README and docs/."""
