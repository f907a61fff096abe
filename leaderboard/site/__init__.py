"""Pages, tables, charts and downloads: what a visitor sees."""
