"""What is to be run: trials, studies, and the table of engines."""
