"""The vector store port on Qdrant, over its gRPC API."""
