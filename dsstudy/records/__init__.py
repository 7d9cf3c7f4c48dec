"""What lies on disk: records, written whole and read with checks."""
