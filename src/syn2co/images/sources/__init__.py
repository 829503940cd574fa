"""Sources of images: folders, tar files, data sets of other libraries, and photographs that come with dependencies."""
