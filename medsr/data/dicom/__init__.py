"""DICOM in: from a folder, an archive or a file to voxels, their place in space, and the headers they came with."""
