"""The application that the demo migrates: a knowledge base over Python's standard library."""
