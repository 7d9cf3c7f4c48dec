"""Images: listed, decoded or drawn, and made into batches."""
