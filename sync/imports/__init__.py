"""Labels that other tools wrote: one reader a format. They write nothing, and report what does not fit."""
