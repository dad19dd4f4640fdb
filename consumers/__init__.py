"""One pure file per projection: its rows, how events become them, and a reference to check against."""
