"""Files on disk: written whole or not at all, hashed, staged, tidied up after killed runs. Knows nothing of images."""
