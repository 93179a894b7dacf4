"""Dataset versions: what was reviewed, frozen with its splits. Touches no tool, only files of the state folder."""
