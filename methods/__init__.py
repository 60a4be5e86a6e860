"""One file, one method; the file's name is the method's name. Files that begin with "_" hold layers that are shared."""
