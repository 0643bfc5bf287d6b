"""Bodies and manifests of change sets: Parquet in object storage."""
