"""Read DICOM: from a folder, an archive or a file to voxels, their place in space, and their headers."""
