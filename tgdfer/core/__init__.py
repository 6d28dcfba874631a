"""What every room may use: files that appear whole or not at all, paths, progress, provenance, errors."""
