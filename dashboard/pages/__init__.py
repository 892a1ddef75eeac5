"""One module a page: `TITLE`, `layout(runs, chosen)` and `connect(app, runs)`."""
