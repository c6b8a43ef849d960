"""The configuration: its schema, composing, checking, and the messages about what is wrong."""
