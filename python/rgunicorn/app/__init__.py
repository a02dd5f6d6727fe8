"""Embedding: applications that bring their server along."""
