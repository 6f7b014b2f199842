"""Where log records come from: followed files and streams."""
