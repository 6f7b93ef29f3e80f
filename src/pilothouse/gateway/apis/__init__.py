"""The APIs that clients speak: chat, messages, responses, embeddings …"""
