"""The app's files, read strictly: an unknown key is an error with file, line and the nearest known key."""
