"""What the user calls DATA: a folder, a table or an HDF5 file becomes a list of images; nothing is decoded."""
