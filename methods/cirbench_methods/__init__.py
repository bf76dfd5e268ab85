"""The methods that come with cirbench, each a plug-in like any other."""
