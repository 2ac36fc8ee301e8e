"""One HTML file of what lies in a directory: a run, a comparison, a sweep or a study. Nothing is trained."""
