"""A Qdrant node for one process: the real gRPC protocol in front of Qdrant's own engine, Edge.

It is the vector store of the embedded mode, so it answers as a Qdrant server answers: same wire
format, same status codes, same wording where clients look at it. Search is exact: nothing here
builds an HNSW graph or quantizes, although such settings are kept and given back.
"""
