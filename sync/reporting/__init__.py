"""One self-contained HTML file on where the project stands: data, people, models, and what to label next."""
