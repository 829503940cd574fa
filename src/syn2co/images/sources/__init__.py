"""Where images come from: folders, tar files, data sets of other libraries, and photographs that ship with dependencies."""
