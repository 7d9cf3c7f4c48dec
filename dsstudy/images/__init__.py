"""Images: listed, decoded, drawn, made into batches."""
