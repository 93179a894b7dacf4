"""The jobs, in rooms by what they are about; ``registry`` knows them all by name, and one writes at a time."""
