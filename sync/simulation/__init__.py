"""What a strategy of choosing images is worth: a labelled set plays the annotator. Touches no project."""
