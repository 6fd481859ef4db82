"""File formats of volumes and pictures, one module each."""
