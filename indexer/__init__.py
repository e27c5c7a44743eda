"""Pictures and metadata in."""
