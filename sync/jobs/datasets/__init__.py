"""Images and labels of other tools in, frozen versions and training exports out."""
