"""The web service: the API, its limits, and the static page (`app.py` joins them, `run.py` starts them)."""
