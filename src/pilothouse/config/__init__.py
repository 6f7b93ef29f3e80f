"""The app's files, read strictly."""
