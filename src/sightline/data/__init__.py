"""Labelled pictures: read from files or generated, packed, varied, put together into batches."""
