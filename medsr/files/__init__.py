"""Write files completely or not at all, hash them, stage them, and clean up after killed runs; knows no images."""
